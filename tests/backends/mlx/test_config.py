"""A config.json says to mlx-lm what it says to transformers, whichever of the two wrote it."""

import json
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING

from dflash_app.backends.mlx.config import eos_ids, read_config
from dflash_app.backends.mlx.loading import load_target
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.errors import LoadError, UnsupportedFormat
from tests.backends.mlx.tiny_models import write_target

IDS = [5, 17, 3, 42, 8, 11, 29, 60, 1]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 50_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def assert_same_logits(folder: Path, model: Any) -> None:
    reference = TorchTarget(model)
    with torch.inference_mode():
        expected, _ = reference.forward(torch.tensor(IDS), None, 1)
    target = load_target(folder, mx.float32)
    found, _ = target.forward(mx.array(IDS), target.new_cache(), 1)
    np.testing.assert_allclose(np.array(found), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5_text"])
def test_what_the_file_leaves_out_is_transformers_default(name: str, tmp_path: Path) -> None:
    model = write_target(name, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    defaults = CONFIG_MAPPING[written["model_type"]]().to_dict()
    kept = {key: value for key, value in written.items() if defaults.get(key, ...) != value}
    kept["model_type"] = written["model_type"]
    assert "tie_word_embeddings" not in kept
    (tmp_path / "config.json").write_text(json.dumps(kept))
    assert_same_logits(tmp_path, model)


@pytest.mark.parametrize("rope", [{"rope_type": "default", "rope_theta": 50_000.0}, LLAMA3])
def test_rope_is_found_where_transformers_5_nests_it(rope: dict[str, Any], tmp_path: Path) -> None:
    assert_same_logits(tmp_path, write_target("llama", tmp_path, rope_parameters=rope))


def test_old_spellings_stay(tmp_path: Path) -> None:
    model = write_target("llama", tmp_path, rope_parameters=LLAMA3)
    written = json.loads((tmp_path / "config.json").read_text())
    nested = written.pop("rope_parameters")
    written["rope_theta"] = nested.pop("rope_theta")
    (tmp_path / "config.json").write_text(json.dumps({**written, "rope_scaling": nested}))
    assert_same_logits(tmp_path, model)


def test_a_text_model_takes_the_name_under_which_mlx_lm_has_it(tmp_path: Path) -> None:
    write_target("qwen3_5_text", tmp_path)
    assert read_config(tmp_path)["model_type"] == "qwen3_5"


def test_eos_ids_are_those_of_all_configs(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [4, 5]}')
    config = {"eos_token_id": 3, "text_config": {"eos_token_id": None}}
    assert eos_ids(tmp_path, config) == {3, 4, 5}


def test_a_config_that_is_no_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="missing"):
        read_config(tmp_path)
    for family in (None, ["qwen3"]):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
        with pytest.raises(UnsupportedFormat, match=f"family {re.escape(repr(family))}"):
            read_config(tmp_path)


@pytest.mark.parametrize(
    "changes", [{"num_hidden_layers": "four"}, {"vocab_size": None}, {"rope_scaling": [1]}]
)
def test_a_config_that_its_family_cannot_have_is_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", **changes}))
    with pytest.raises(LoadError, match="no valid config; download the target again"):
        read_config(tmp_path)
