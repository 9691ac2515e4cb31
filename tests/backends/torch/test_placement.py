"""Layers on disk, on several GPUs, and where one device is enough: the text stays the same."""

import gc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dflash_app.backends.torch import placement
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.loading import choose_spread, load_models
from dflash_app.backends.torch.placement import Spread
from dflash_app.backends.torch.selftest.oracle import OracleLane
from dflash_app.backends.torch.selftest.tiny_families import VOCAB_SIZE, build_model
from dflash_app.backends.torch.target import TorchTarget, load_target
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import LoadError
from dflash_app.request import SamplingParams
from tests.backends.torch.stored import rewrite_weights

CPU = torch.device("cpu")
GREEDY = SamplingParams()
BLOCK_SIZE = 8
PROMPT = Random(7).choices(range(VOCAB_SIZE), k=30)
ACCEPTED = Random(1).sample([*range(BLOCK_SIZE)], k=BLOCK_SIZE)
NUM_TOKENS = 1 + sum(ACCEPTED) + len(ACCEPTED)


def _write(name: str, folder: Path, **changes: Any) -> Path:
    build_model(name, whole=True, **changes).save_pretrained(folder)
    return folder


def _half_of(folder: Path) -> Spread:
    return Spread((folder / "model.safetensors").stat().st_size // 2)


def _plain(target: TorchTarget, run_lane: Callable[..., Any]) -> list[int]:
    lane = TorchLane(target, None, GREEDY)
    token_ids: list[int] = run_lane(lane, PROMPT, NUM_TOKENS + BLOCK_SIZE, num_draft=0).token_ids
    return token_ids


# Cropping, replay, slicing, shared keys and values; and experts, whose tensors are made anew.
@pytest.mark.parametrize(
    "name", ["qwen3", "qwen3_5_text", "deepseek_v4", "gemma4_text shared", "qwen3_moe"]
)
def test_layers_on_disk_are_lossless_and_say_what_the_whole_model_says(
    name: str, tmp_path: Path, run_lane: Callable[..., Any]
) -> None:
    _write(name, tmp_path)
    target = load_target(tmp_path, CPU, torch.float32, spread=_half_of(tmp_path))
    assert (target.devices, target.device) == ("cpu+disk", CPU)
    assert any(parameter.is_meta for parameter in target.model.parameters())
    truth = _plain(load_target(tmp_path, CPU, torch.float32), run_lane)
    assert _plain(target, run_lane) == truth
    lane = OracleLane(target, PROMPT, truth, ACCEPTED)
    decoded = run_lane(lane, PROMPT, NUM_TOKENS, num_draft=BLOCK_SIZE - 1)
    assert decoded.token_ids == truth[:NUM_TOKENS]
    (slow,) = target.warnings
    assert "layers, " in slow
    assert "on disk found no room and cross over in every step" in slow


def test_a_drafter_drafts_from_layers_and_an_embedding_that_are_on_disk(
    make_drafter: Callable[..., Any], tmp_path: Path, run_lane: Callable[..., Any]
) -> None:
    _write("qwen3", tmp_path / "target")
    save_drafter(make_drafter(VOCAB_SIZE), tmp_path / "drafter")
    on_disk = LoadOptions(device="auto", max_memory_bytes=1)
    models = load_models(tmp_path / "target", tmp_path / "drafter", on_disk)
    whole = load_models(tmp_path / "target", tmp_path / "drafter", LoadOptions(device="cpu"))
    assert models.target.model.get_input_embeddings().weight.is_meta
    assert torch.equal(models.target.embedding, whole.target.embedding)
    one, other = (
        run_lane(each.open_lane(GREEDY, "dflash"), PROMPT, NUM_TOKENS) for each in (models, whole)
    )
    assert one.token_ids == other.token_ids == _plain(whole.target, run_lane)[:NUM_TOKENS]
    assert [step.drafted_ids for step in one.steps] == [step.drafted_ids for step in other.steps]
    # What is on disk takes no memory.
    alone = load_models(tmp_path / "target", None, LoadOptions(device="cpu"))
    assert models.memory_bytes() == whole.memory_bytes() - alone.memory_bytes()


def test_the_embedding_is_the_stored_rows_without_the_familys_own_scale(tmp_path: Path) -> None:
    _write("gemma4_text", tmp_path)
    target = load_target(tmp_path, CPU, torch.float32, spread=Spread(1))
    stored = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(target.embedding, stored)
    assert target.embedding is target.embedding  # read once


def test_what_was_laid_out_on_disk_goes_with_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_out = tmp_path / "offload"
    monkeypatch.setattr(placement, "mkdtemp", lambda prefix: laid_out.mkdir() or laid_out)
    _write("qwen3_moe", tmp_path / "target")
    target = load_target(tmp_path / "target", CPU, torch.float32, spread=Spread(1))
    assert list(laid_out.iterdir())  # experts are stored one by one and used together
    del target
    gc.collect()
    assert not laid_out.exists()
    (tmp_path / "target" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(LoadError):
        load_target(tmp_path / "target", CPU, torch.float32, spread=Spread(1))
    assert not laid_out.exists()


def test_what_fits_is_not_spread_and_pays_nothing(tmp_path: Path) -> None:
    target = load_target(_write("qwen3", tmp_path), CPU, torch.float32, spread=Spread())
    assert target.devices == "cpu"
    assert target.warnings == ()
    assert not any(hasattr(part, "_hf_hook") for part in target.model.modules())


def test_a_limit_of_memory_needs_the_device_auto() -> None:
    assert choose_spread(LoadOptions(device="auto", max_memory_bytes=9)) == Spread(9)
    assert choose_spread(LoadOptions(device="cpu")) is None
    with pytest.raises(LoadError, match="needs the device auto"):
        choose_spread(LoadOptions(device="cpu", max_memory_bytes=9))


def test_a_limit_counts_for_each_gpu_and_else_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "get_max_memory", lambda: {0: 1000, 1: 500, "cpu": 9000})
    assert Spread().limits() == {0: 900, 1: 450, "cpu": 9000}
    assert Spread(600).limits() == {0: 600, 1: 450, "cpu": 9000}
    monkeypatch.setattr(placement, "get_max_memory", lambda: {"cpu": 9000})
    assert Spread(600).limits() == {"cpu": 600}


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    "options", [{}, {"quantization": "nf4"}, {"quantization": "int8"}, {"spread": Spread(1)}]
)
def test_weights_that_are_no_numbers_are_refused_wherever_they_are(
    tmp_path: Path, value: float, options: Any
) -> None:
    _write("qwen3", tmp_path, hidden_size=64, intermediate_size=128, head_dim=16)
    name = "model.layers.2.mlp.up_proj.weight"

    def spoil(state: dict[str, torch.Tensor]) -> None:
        state[name][3, 5] = value

    load_target(tmp_path, CPU, torch.float32, **options)
    rewrite_weights(tmp_path, spoil)
    with pytest.raises(LoadError, match=rf"{name} .*no finite numbers .*download the target again"):
        load_target(tmp_path, CPU, torch.float32, **options)


@pytest.mark.parametrize(
    "name", ["gemma4", "gemma4_unified", "kimi_k25", "muse_glimmer", "qwen3_5"]
)
def test_a_wrapper_keeps_its_language_model_and_nothing_to_see_with(
    name: str, tmp_path: Path
) -> None:
    published = build_model(name, whole=True)
    published.save_pretrained(tmp_path)
    target = load_target(tmp_path, CPU, torch.float32)
    kept = {key for key, _ in target.model.named_parameters()}
    assert not [key for key in kept if "vision" in key or "projector" in key or "visual" in key]
    ids = torch.tensor(PROMPT)
    with torch.inference_mode():
        expected = published(input_ids=ids[None]).logits[0]
        assert torch.allclose(target.forward(ids, None, len(ids))[0], expected, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_text"])
def test_layers_on_several_gpus_and_in_memory_are_lossless(
    name: str, tmp_path: Path, make_drafter: Callable[..., Any], run_lane: Callable[..., Any]
) -> None:
    _write(name, tmp_path / "target")
    save_drafter(make_drafter(VOCAB_SIZE), tmp_path / "drafter")
    third = (tmp_path / "target" / "model.safetensors").stat().st_size // 3
    spread = LoadOptions(device="auto", dtype="float32", max_memory_bytes=third)
    models = load_models(tmp_path / "target", tmp_path / "drafter", spread)
    assert "+" in models.device
    truth = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, NUM_TOKENS, num_draft=0).token_ids
    assert run_lane(models.open_lane(GREEDY, "dflash"), PROMPT, NUM_TOKENS).token_ids == truth
