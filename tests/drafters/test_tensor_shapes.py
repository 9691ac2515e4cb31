"""The tensors that a config asks for are those of the modules that both backends build."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.dflash2 import new_drafter
from dflash_app.drafters.tensor_shapes import tensor_shapes
from tests.backends.torch.drafter_files import DFLASH2, random_drafter

SECOND = {"architectures": ["DFlash2DraftModel"], **DFLASH2}
OWN = {"own_embedding": True, "own_head": True}


DRAFT_VOCABULARY = {"own_head": True, "draft_vocab_size": 40}


@pytest.mark.parametrize(
    ("said", "tensors"),
    [
        ({}, {}),
        ({}, OWN),
        ({}, DRAFT_VOCABULARY),
        ({"attention_bias": True}, {}),
        (SECOND, {}),
        (SECOND, OWN),
    ],
    ids=str,
)
def test_a_config_asks_for_the_tensors_of_the_drafter_that_it_makes(
    said: dict[str, Any], tensors: dict[str, Any]
) -> None:
    config = replace(random_drafter(**said).config, **tensors)
    with torch.device("meta"):
        made = new_drafter(config).state_dict()
    assert tensor_shapes(config) == {name: tuple(each.shape) for name, each in made.items()}
