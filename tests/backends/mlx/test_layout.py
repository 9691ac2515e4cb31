"""Weights that lie otherwise: the same logits to the last bit, and only where it pays."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.utils import load_model

from dflash_app.backends.mlx.config import read_config
from dflash_app.backends.mlx.layout import lay_out_for_products
from dflash_app.backends.mlx.loading import load_drafter, load_target
from dflash_app.backends.torch.checkpoint import save_drafter
from tests.backends.mlx.tiny_models import write_target
from tests.backends.torch.drafter_files import random_drafter

on_linux = pytest.mark.skipif(platform.system() == "Darwin", reason="Macs have a BLAS of their own")


def lies_by_input(weight: mx.array) -> bool:
    *_, of_outputs, of_inputs = memoryview(weight).strides or ()  # type: ignore[arg-type]
    return of_outputs < of_inputs


@pytest.mark.parametrize("name", ["qwen3", "qwen3_moe", "qwen3_5", "gemma4_text", "gpt_oss"])
def test_logits_are_those_of_mlx_lms_own_layout_to_the_last_bit(
    name: str, target_folder: Callable[[str], Path]
) -> None:
    folder = target_folder(name)
    plain: Any = load_model(folder, model_config=read_config(folder))[0]
    plain.set_dtype(mx.float32)
    target = load_target(target_folder(name), mx.float32)
    for num_tokens in (1, 7, 40):
        ids = mx.arange(num_tokens) % 50
        found, _ = target.forward(ids, target.new_cache(), num_tokens)
        assert mx.array_equal(found, plain(ids[None])[0])


@on_linux
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_multiplied_lies_by_input_and_what_is_looked_up_does_not(
    tied: bool, tmp_path: Path
) -> None:
    write_target("qwen3", tmp_path, tie_word_embeddings=tied)
    body = load_target(tmp_path, mx.float32)._body
    assert lies_by_input(body.layers[0].self_attn.q_proj.weight)
    assert lies_by_input(body.embed_tokens.weight) is tied


@on_linux
def test_experts_and_drafters_lie_by_input_too(
    target_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    experts = load_target(target_folder("qwen3_moe"), mx.float32)._body.layers[1].mlp.switch_mlp
    assert lies_by_input(experts.gate_proj.weight)
    save_drafter(random_drafter(), tmp_path)
    assert lies_by_input(load_drafter(tmp_path, mx.float32).fc.weight)


def test_half_precision_and_macs_keep_the_checkpoints_layout(
    target_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = load_target(target_folder("qwen3"), mx.bfloat16)._body.layers[0]
    assert not lies_by_input(half.mlp.down_proj.weight)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    model = load_model(target_folder("qwen3"))[0]
    lay_out_for_products(model)
    assert not lies_by_input(model.model.layers[0].mlp.down_proj.weight)
