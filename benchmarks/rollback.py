"""What going back costs a GatedDeltaNet layer, against the layer's own verification of a block."""

from collections.abc import Mapping
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

from dflash_app.backends.torch.layout import store_by_columns
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.drafters.transformers_calls import quiet_transformers

BLOCK_SIZE = 16
NUM_PREFIX = 64
NUM_WARM_UP = 3
_HEADS = {"linear_num_key_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128}

SHAPES: dict[str, dict[str, int]] = {
    "Qwen3.5-4B": {
        "hidden_size": 2560,
        "intermediate_size": 9216,
        "linear_num_value_heads": 32,
        **_HEADS,
    },
    "Qwen3.5-27B": {
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "linear_num_value_heads": 48,
        **_HEADS,
    },
}
"""Published shapes of a GatedDeltaNet layer with its feed-forward part."""


@torch.inference_mode()
def measure_rollback(
    shape: Mapping[str, int], *, repeats: int, kept: int = BLOCK_SIZE - 1
) -> dict[str, Any]:
    """Time a layer's verification of a block and its going back in it, in turn.

    Args:
        shape: a value of `SHAPES`.
        repeats: of both; the first few are not counted.
        kept: tokens of the block that stay, anchor included; one less than the block costs most.

    Returns:
        Medians in seconds, and the part that going back takes of a verification.
    """
    target = _target_of(shape)
    verify_s: list[float] = []
    _time_calls(target.model.model.layers[0], verify_s)
    rewind_s = []
    cache: Any = target.new_cache()
    with quiet_transformers():
        target.forward(torch.arange(NUM_PREFIX) % target.vocab_size, cache, 1)
        cache.crop(0)
        for _ in range(repeats + NUM_WARM_UP):
            target.forward(torch.arange(BLOCK_SIZE) % target.vocab_size, cache, 1)
            started_s = perf_counter()
            cache.layers[0].crop(kept - BLOCK_SIZE)
            rewind_s.append(perf_counter() - started_s)
            cache.layers[1].crop(kept - BLOCK_SIZE)
    verify, rewind = median(verify_s[1 + NUM_WARM_UP :]), median(rewind_s[NUM_WARM_UP:])
    return {
        "kept": kept,
        "verify_s": verify,
        "rewind_s": rewind,
        "part_of_verify": rewind / verify,
    }


def _target_of(shape: Mapping[str, Any]) -> TorchTarget:
    """The layer with random weights; beside it only what transformers' model cannot do without."""
    config = Qwen3_5TextConfig(
        **shape, num_hidden_layers=2, layer_types=["linear_attention", "full_attention"],
        vocab_size=32, num_attention_heads=2, num_key_value_heads=2, head_dim=64,
    )  # fmt: skip
    torch.manual_seed(0)
    with quiet_transformers():
        model: Any = Qwen3_5ForCausalLM(config)
    model.eval().requires_grad_(False)
    model.model.layers[1].mlp = nn.Identity()
    store_by_columns(model)
    return TorchTarget(model)


def _time_calls(module: nn.Module, seconds: list[float]) -> None:
    started_s = [0.0]

    def begin(*_: Any) -> None:
        started_s[0] = perf_counter()

    def end(*_: Any) -> None:
        seconds.append(perf_counter() - started_s[0])

    module.register_forward_pre_hook(begin)
    module.register_forward_hook(end)
