"""Weights must be numbers: one NaN makes every token that it touches a guess."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dflash_app.backends.torch.placement import offloaded_weights
from dflash_app.errors import LoadError


@torch.no_grad()
def check_finite(model: nn.Module, folder: Path) -> None:
    """Refuse a target that holds NaN or infinity.

    Every weight is read once where it is, without a copy: that takes as long as one decoded token,
    a small part of what loading took. The first logits would not tell: an expert that they did not
    use may be broken. Buffers may hold infinities (masks do) and are not looked at.

    Raises:
        LoadError: naming the tensor.
    """
    found: list[tuple[str, Tensor]] = []
    for name, weight in _floating(model):
        low, high = torch.aminmax(weight)  # NaN goes through
        found.append((name, low.isfinite() & high.isfinite()))
    for name, finite in found:
        if not finite:
            raise LoadError(
                f"Tensor {name} of the target in {folder} holds values that are no finite numbers "
                "(NaN or infinity): download the target again, or choose another revision."
            )


def _floating(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        weight: Any = parameter
        if getattr(weight, "quant_state", None) is not None:
            weight = weight.quant_state.absmax
        elif getattr(weight, "SCB", None) is not None:
            weight = weight.SCB
        # What takes one byte (float8) knows no infinity, or comes with scales that tell.
        wide = weight.is_floating_point() and weight.element_size() > 1
        if wide and weight.numel() and not weight.is_meta:
            yield name, weight
    for name, weight in offloaded_weights(model):
        if weight.is_floating_point():
            yield name, weight
