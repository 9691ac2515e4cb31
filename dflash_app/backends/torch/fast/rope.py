"""Rotations of all positions, computed once."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from dflash_app.backends.torch.fast.kv import FIRST_CAPACITY

Angles: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions [T] int64 -> cos and sin, each [..., T, head_dim], any float dtype."""


class RopeTable:
    """Rows of cos and signed sin; grows by doubling.

    Args:
        angles: the model's own.
        like: any tensor of the model; gives dtype and device.
    """

    def __init__(self, angles: Angles, like: Tensor) -> None:
        self._angles = angles
        self._like = like
        # Replaced as a whole: pairs that share a target read it from threads of their own.
        self._held = like.new_empty(0), like.new_empty(0)

    def rows(self, start: int, num_rows: int) -> tuple[Tensor, Tensor]:
        """Of positions start .. start + num_rows - 1: cos and sin, each [num_rows, 1, head_dim]."""
        cos, sin = self._held
        if start + num_rows > cos.shape[0]:
            cos, sin = self._held = self._rows(max(FIRST_CAPACITY, 2 * (start + num_rows)))
        return cos.narrow(0, start, num_rows), sin.narrow(0, start, num_rows)

    def _rows(self, count: int) -> tuple[Tensor, Tensor]:
        angles = self._angles(torch.arange(count, device=self._like.device))
        cos, sin = (each.reshape(count, 1, -1).to(self._like.dtype) for each in angles)
        half = sin.shape[-1] // 2
        return cos, torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate [T, heads, head_dim] by `RopeTable.rows`, halves paired as in Llama."""
    return torch.addcmul(states * cos, states.roll(states.shape[-1] // 2, -1), sin)
