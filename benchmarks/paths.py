"""One pair on two paths in one process: transformers' modules, and the fast path."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dflash_app.backends.torch.fast import FastDrafter, FastTarget, why_not, why_not_drafter
from dflash_app.backends.torch.formats import load_drafter
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.layout import store_by_columns
from dflash_app.backends.torch.savepoint import new_prefix
from dflash_app.backends.torch.target import load_target
from dflash_app.request import Mode, SamplingParams

MODULES, FAST = "modules", "fast path"


@dataclass(frozen=True, slots=True)
class LoadedPath:
    """A way to run the pair.

    Attributes:
        target: decides.
        drafter: drafts.
        open_lane: greedy, in a mode.
        target_bytes: of the weights that a step of the target reads.
        draft_bytes: of those that a draft reads, the borrowed head included.
    """

    target: Any
    drafter: Any
    open_lane: Callable[[Mode], TorchLane]
    target_bytes: int
    draft_bytes: int


def load_paths(target_dir: Path, drafter_dir: Path) -> dict[str, LoadedPath]:
    """Load the pair twice, on the CPU in float32.

    Raises:
        ValueError: the fast path does not run it.
    """
    cpu, dtype = torch.device("cpu"), torch.float32
    targets = [load_target(target_dir, cpu, dtype) for _ in range(2)]
    drafters = [load_drafter(drafter_dir, cpu, dtype) for _ in range(2)]
    reason = why_not(targets[1].model) or why_not_drafter(drafters[1])
    if reason is not None:
        raise ValueError(f"the fast path does not run this pair: {reason}")
    for module in (targets[0].model, drafters[0]):
        store_by_columns(module)
    head_bytes = sum(weight.nbytes for weight in targets[0].head.parameters())
    layers_bytes = _linear_bytes(targets[0].model.model.layers)
    draft_bytes = _linear_bytes(drafters[0])
    target, drafter = FastTarget(targets[1].model), FastDrafter(drafters[1])
    return {
        MODULES: LoadedPath(
            targets[0],
            drafters[0],
            lambda mode: TorchLane(
                targets[0], drafters[0] if mode == "dflash" else None, SamplingParams()
            ),
            layers_bytes + head_bytes,
            draft_bytes + head_bytes,
        ),
        FAST: LoadedPath(
            target,
            drafter,
            lambda mode: _fast_lane(target, drafter if mode == "dflash" else None),
            target.read_bytes,
            drafter.read_bytes + target.head.read_bytes,
        ),
    }


def _fast_lane(target: FastTarget, drafter: Any) -> TorchLane:
    prefix: Any = new_prefix(target.new_cache())
    if drafter is not None:
        prefix.context = drafter.new_context()
    return TorchLane(target, drafter, SamplingParams(), prefix=prefix)


def _linear_bytes(module: torch.nn.Module) -> int:
    return sum(part.weight.nbytes for part in module.modules() if isinstance(part, torch.nn.Linear))
