"""One pair on two paths in one process: transformers' modules, and the fast path."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.loading import load_models
from dflash_app.backends.torch.models import TorchModels
from dflash_app.engine.protocol import LoadOptions
from dflash_app.request import Mode, SamplingParams

MODULES, FAST = "modules", "fast path"
FAST_PATH = "static cache"
OPTIONS = LoadOptions(device="cpu", dtype="float32")


@dataclass(frozen=True, slots=True)
class LoadedPath:
    """A way to run the pair.

    Attributes:
        target: decides.
        drafter: drafts.
        open_lane: greedy, in a mode.
        target_bytes: of the weights that a step of the target reads.
        draft_bytes: of those that a draft reads, the borrowed head included.
        target_weights: numbers that each token of a step is multiplied with.
        draft_weights: the same of a draft.
    """

    target: Any
    drafter: Any
    open_lane: Callable[[Mode], TorchLane]
    target_bytes: int
    draft_bytes: int
    target_weights: int
    draft_weights: int


def load_paths(target_dir: Path, drafter_dir: Path) -> dict[str, LoadedPath]:
    """Load the pair twice, on the CPU in float32.

    Raises:
        ValueError: the fast path does not run it.
    """
    slow = load_models(target_dir, drafter_dir, OPTIONS, fast=False)
    fast = load_models(target_dir, drafter_dir, OPTIONS)
    if fast.path != FAST_PATH or fast.drafter_path != FAST_PATH:
        raise ValueError(f"the fast path does not run this pair: {fast.path}, {fast.drafter_path}")
    # Benchmarks read what a step reads, which only the parts themselves tell.
    target: Any = slow.target
    drafter: Any = slow.drafter
    head = sum(weight.numel() for weight in target.head.parameters())
    weights = (_linear_weights(target.model.model.layers) + head, _linear_weights(drafter) + head)
    target, drafter = fast.target, fast.drafter
    read = (target.read_bytes, drafter.read_bytes + target.head.read_bytes)
    return {
        MODULES: _path(slow, (4 * weights[0], 4 * weights[1]), weights),
        FAST: _path(fast, read, weights),
    }


def _path(models: TorchModels, read: tuple[int, int], weights: tuple[int, int]) -> LoadedPath:
    return LoadedPath(
        models.target,
        models.drafter,
        lambda mode: models.open_lane(SamplingParams(), mode),
        *read,
        *weights,
    )


def _linear_weights(module: torch.nn.Module) -> int:
    linears = (part for part in module.modules() if isinstance(part, torch.nn.Linear))
    return sum(part.weight.numel() for part in linears)
