"""Weights laid out for the CPU are the same weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from dflash_app.backends.torch.checkpoint import load_drafter, save_drafter
from dflash_app.backends.torch.layout import store_by_columns
from dflash_app.backends.torch.models import TorchModels


@pytest.mark.parametrize("tied", [False, True])
def test_logits_stay_and_only_linear_weights_turn(
    make_target: Callable[..., Any], tied: bool
) -> None:
    target = make_target("qwen3", 96, tie_word_embeddings=tied)
    models = TorchModels(target, None)
    before, size = models.next_logits([1, 2, 3], range(96)), models.memory_bytes()
    store_by_columns(target.model)
    assert models.next_logits([1, 2, 3], range(96)) == pytest.approx(before, abs=1e-4)
    assert models.memory_bytes() == size
    for part in target.model.modules():
        if isinstance(part, nn.Linear) and part.weight is not target.embedding:
            assert part.weight.t().is_contiguous()
    assert target.embedding.is_contiguous()
    assert (target.head.weight is target.embedding) == tied


def test_a_turned_drafter_saves_the_same_checkpoint(
    make_drafter: Callable[..., Any], tmp_path: Any
) -> None:
    drafter = make_drafter(96)
    expected = {name: tensor.clone() for name, tensor in drafter.state_dict().items()}
    store_by_columns(drafter)
    save_drafter(drafter, tmp_path)
    again = load_drafter(tmp_path, torch.device("cpu"), torch.float32).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())
