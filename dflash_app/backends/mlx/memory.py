"""How much of a Mac's one memory the GPU may have, and how much of it MLX keeps for itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from dflash_app.backends.mlx.borrowed_files import stored_tensors
from dflash_app.errors import LoadError

CACHE_SHARE = 16
"""MLX keeps freed buffers for the next step: as much as this part of what the GPU may have.

A step's buffers are far smaller; without a limit those of a long prompt stay for good."""

NEARLY_FULL = 0.9


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


def check_room(folder: Path, limits: MemoryLimits | None) -> None:
    """Refuse weights that the GPU cannot hold, before they are read.

    Args:
        folder: of the target, stored as it will be held.
        limits: of the device.

    Raises:
        LoadError: naming both sizes.
    """
    if limits is None:
        return
    needed = sum(tensor.size_bytes for tensor in stored_tensors(folder).values())
    if needed > limits.wired_bytes:
        raise LoadError(
            f"The weights take {_say(needed)} and the GPU may hold {_say(limits.wired_bytes)} of "
            "this Mac's memory: choose a 4bit conversion or a smaller pair."
        )


def room_warning(weight_bytes: int, limits: MemoryLimits | None) -> str | None:
    """What the user should know where little room is left beside the weights."""
    if limits is None or weight_bytes <= NEARLY_FULL * limits.wired_bytes:
        return None
    return (
        f"The weights take {_say(weight_bytes)} of the {_say(limits.wired_bytes)} that the GPU may "
        "hold of this Mac's memory: long conversations will be slow or fail."
    )


def _say(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
