"""What is known of models that are here, and of those that are not."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dflash_app.errors import PlanError
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.serving.shapes import shape_of

CONFIG = {
    "model_type": "qwen3",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
}


def write_model(folder: Path, **config: object) -> ModelRef:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"w": torch.zeros(100)}, folder / "model.safetensors")
    return ModelRef(path=str(folder))


def test_a_model_that_is_here_tells_its_size_and_heads_itself(tmp_path: Path) -> None:
    shape = shape_of(write_model(tmp_path / "m"), "target", online=False)
    assert shape.source == "its files here"
    assert shape.weights_bytes == (tmp_path / "m" / "model.safetensors").stat().st_size
    assert (shape.num_heads, shape.num_kv_heads, shape.context_length) == (8, 2, 512)
    assert shape.token_size == 2 * 4 * 2 * 16
    assert shape.token_bytes == 2 * 2 * 4 * 2 * 16


def test_a_recurrent_target_names_the_heads_that_have_to_be_divided_too(tmp_path: Path) -> None:
    ref = write_model(tmp_path / "m", model_type="qwen3_5", head_dim=None)
    shape = shape_of(ref, "target", online=False)
    assert shape.linear_heads == (16, 32)
    assert shape.token_size == 2 * 1 * 2 * 256  # every fourth layer's cache grows


def test_a_drafter_slides_only_where_all_of_its_layers_do(tmp_path: Path) -> None:
    slides = ["sliding_attention"] * 4
    all_of_them = write_model(tmp_path / "a", layer_types=slides, sliding_window=128)
    mixed = [*slides[:3], "full_attention"]
    some = write_model(tmp_path / "b", layer_types=mixed, sliding_window=128)
    assert shape_of(all_of_them, "drafter", online=False).window == 128
    assert shape_of(some, "drafter", online=False).window is None


def test_the_shipped_pair_is_known_by_its_files(pairs: dict[str, Pair]) -> None:
    shape = shape_of(pairs["embedded"].target, "target", online=False)
    assert (shape.source, shape.num_heads, shape.num_kv_heads) == ("its files here", 8, 4)
    assert 9_000_000 < shape.weights_bytes < 11_000_000


def test_published_shapes_and_names_tell_the_rest(pairs: dict[str, Pair]) -> None:
    kimi = shape_of(pairs["kimi-k2.5"].target, "target", online=False)
    assert (kimi.source, kimi.weights_bytes) == ("published shapes", 600 * 10**9)
    assert (kimi.num_kv_heads, kimi.token_size) == (1, 61 * 576)
    qwen = shape_of(pairs["qwen3.5-122b-a10b"].target, "target", online=False)
    assert (qwen.source, qwen.weights_bytes) == ("its name", 244 * 10**9)
    assert qwen.token_size == 2 * 12 * 2 * 256
    drafter = pairs["qwen3.8-27b-dflash2"].drafter
    assert drafter is not None
    assert shape_of(drafter, "drafter", online=False).window == 2048


@pytest.mark.parametrize("repo", ["a/Model-7B-AWQ", "a/Model-7B-4bit", "a/Model-Large"])
def test_a_size_that_nobody_tells_is_asked_for(repo: str) -> None:
    ref = ModelRef(repo=repo)
    with pytest.raises(PlanError, match=r"is not known here: ask the hub .* --weights-gb"):
        shape_of(ref, "target", online=False)
    shape = shape_of(ref, "target", online=False, weights_gb=4.5)
    assert (shape.weights_bytes, shape.source) == (4_500_000_000, "your figure")


def test_a_drafters_size_is_never_read_from_its_targets_name() -> None:
    ref = ModelRef(repo="z-lab/Qwen3.5-397B-A17B-DFlash")
    with pytest.raises(PlanError, match="--drafter-weights-gb"):
        shape_of(ref, "drafter", online=False)


def test_a_hub_that_cannot_be_reached_leaves_what_was_published(
    pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    shape = shape_of(pairs["qwen3-8b"].target, "target", online=True)
    assert shape.source == "its name"
