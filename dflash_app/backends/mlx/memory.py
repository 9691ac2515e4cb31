"""What a pair needs of a Mac's one memory, how much the GPU may have of it, and what MLX keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from dflash_app.backends.mlx.device import choose_device, say_device
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import LoadError
from dflash_app.hub.free_memory import free_ram_bytes
from dflash_app.hub.headers import stored_tensors
from dflash_app.hub.memory import MemoryNeed, Storing, estimate
from dflash_app.hub.model_files import read_json
from dflash_app.hub.room import refusal

CACHE_SHARE = 16
"""MLX keeps freed buffers for the next step: as much as this part of what the GPU may have.

A step's buffers are far smaller; without a limit those of a long prompt stay for good."""

FOR_MLX = "for MLX"
"""Where the free memory is that `hub.room` speaks of."""


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """What a process may hold on this machine's GPU.

    Attributes:
        wired_bytes: kept resident, so that macOS does not swap weights out between two steps: the
            most that Metal recommends.
        cache_bytes: freed buffers that MLX keeps.
    """

    wired_bytes: int
    cache_bytes: int

    def __str__(self) -> str:
        return (
            f"The GPU may hold {_say(self.wired_bytes)} of this Mac's memory, and MLX keeps "
            f"{_say(self.cache_bytes)} of freed buffers at most"
        )


def memory_limits(device_info: Mapping[str, Any]) -> MemoryLimits | None:
    """The limits of a device; None where it is not Metal's and nothing is said.

    Args:
        device_info: of `mx.device_info`.
    """
    recommended = device_info.get("max_recommended_working_set_size")
    if recommended is None:
        return None
    return MemoryLimits(int(recommended), int(recommended) // CACHE_SHARE)


def set_memory_limits(limits: MemoryLimits | None) -> None:
    """Let MLX keep to them; called once per load, with no work in flight."""
    if limits is not None:
        mx.set_wired_limit(limits.wired_bytes)
        mx.set_cache_limit(limits.cache_bytes)


def free_bytes(limits: MemoryLimits | None) -> int | None:
    """What is left for MLX: of what the GPU may hold, else of the machine's memory."""
    if limits is None:
        return free_ram_bytes()
    return limits.wired_bytes - int(mx.get_active_memory())


def estimate_pair(
    target_dir: Path,
    drafter_dir: Path | None,
    options: LoadOptions,
    dtype: str,
    *,
    block_size: int | None = None,
) -> MemoryNeed | None:
    """Add up what two folders will take; reads configs and headers only.

    Args:
        target_dir: the target's.
        drafter_dir: the drafter's; None for a target alone.
        options: how it will be loaded.
        dtype: "float32", "bfloat16", "float16".
        block_size: the drafter's, anchor included.

    Returns:
        None where the config does not tell the shapes.
    """
    storing = Storing(
        dtype=dtype,
        quantization=options.quantization,
        drafter_quantization=options.drafter_quantization,
        writes_scores=say_device(choose_device(options.device)) == "cpu",
    )
    try:
        return estimate(
            stored_tensors(target_dir),
            read_json(target_dir / "config.json"),
            None if drafter_dir is None else stored_tensors(drafter_dir),
            storing,
            block_size=block_size,
        )
    except LoadError:
        return None  # damaged: reading it says what is


def check_room(need: MemoryNeed | None, free: int | None) -> None:
    """Refuse a pair that does not fit, before its weights are read.

    Args:
        need: of the pair.
        free: bytes, with nothing of the pair in memory; None is not known.

    Raises:
        LoadError: naming both sizes and the cures.
    """
    if need is None or free is None:
        return
    cures = "choose 4bit, a smaller pair, or the target alone"
    reason = refusal(need, free, FOR_MLX, cures)
    if reason is not None:
        raise LoadError(reason)


def _say(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
