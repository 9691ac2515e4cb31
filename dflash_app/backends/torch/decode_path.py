"""What runs on the fast path, and what is said of that which does not."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.backends.torch.drafting import Drafter
from dflash_app.backends.torch.fast import FastDrafter, FastTarget, why_not, why_not_drafter
from dflash_app.backends.torch.layout import store_by_columns
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.engine.out_of_memory import refusing


def fastest_target(target: TorchTarget, *, fast: bool = True) -> TorchTarget:
    """The same target on the fastest path that is exact for it.

    Args:
        target: just loaded; where it goes fast it gives its weights away.
        fast: False leaves it to transformers.

    Raises:
        LoadError: its weights do not fit into memory while they are laid out anew.
    """
    target.slow_reason = _why_slow(target)
    if not fast or target.slow_reason is not None:
        with _room_on(target.device):
            _lay_out(target.model, target.device, target.dtype)
        return target
    with _room_on(target.device):
        laid_out = FastTarget(target.model)
    # What was found while loading: the fast path is built from the model alone.
    laid_out.quantization, laid_out.warnings = target.quantization, target.warnings
    return laid_out


def fastest_drafter(drafter: DFlashDrafter, *, fast: bool = True) -> Drafter:
    """The same for a drafter.

    Raises:
        LoadError: as `fastest_target`.
    """
    weight = drafter.norm.weight
    drafter.slow_reason = why_not_drafter(drafter)
    if not fast or drafter.slow_reason is not None:
        with _room_on(weight.device):
            _lay_out(drafter, weight.device, weight.dtype)
        return drafter
    with _room_on(weight.device):
        return FastDrafter(drafter)


def _why_slow(target: TorchTarget) -> str | None:
    if target.rollback_kind == "snapshot":
        return "snapshots"
    if any(hasattr(module, "_hf_hook") for module in target.model.modules()):
        return "weights in several places"
    return why_not(target.model)


def _room_on(device: torch.device) -> AbstractContextManager[None]:
    return refusing(
        f"The weights do not fit into the memory of {device} while they are laid out for "
        "decoding: free some, or choose nf4, bfloat16 or a smaller pair."
    )


def _lay_out(module: Any, device: torch.device, dtype: torch.dtype) -> None:
    if device.type == "cpu" and dtype == torch.float32:
        store_by_columns(module)
