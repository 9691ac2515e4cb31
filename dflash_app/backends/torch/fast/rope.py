"""Rotations of all positions, computed once."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from dflash_app.hub.capacity import capacity_of

Angles: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions [T] int64 -> cos and sin, each [..., T, head_dim], any float dtype."""


class RopeTable:
    """Rows of cos and signed sin; grows as the caches do.

    Args:
        angles: the model's own.
        like: any tensor of the model; gives dtype and device.
    """

    def __init__(self, angles: Angles, like: Tensor) -> None:
        self._angles = angles
        self._like = like
        # Replaced as a whole: pairs that share a target read it from threads of their own.
        self._held = like.new_empty(0), like.new_empty(0)
        # What was held before: recorded steps read it where it was.
        self._outgrown: list[tuple[Tensor, Tensor]] = []

    def rows(self, start: int, num_rows: int) -> tuple[Tensor, Tensor]:
        """Of positions start .. start + num_rows - 1: cos and sin, each [num_rows, 1, head_dim]."""
        cos, sin = self._up_to(start + num_rows)
        return cos.narrow(0, start, num_rows), sin.narrow(0, start, num_rows)

    def gather(self, positions: Tensor, bound: int) -> tuple[Tensor, Tensor]:
        """`rows` of positions that only the device knows.

        Args:
            positions: [T] int64.
            bound: they are all below it.
        """
        cos, sin = self._up_to(bound)
        return cos.index_select(0, positions), sin.index_select(0, positions)

    def _up_to(self, count: int) -> tuple[Tensor, Tensor]:
        if count > self._held[0].shape[0]:
            self._outgrown.append(self._held)
            self._held = self._rows(capacity_of(count))
        return self._held

    def _rows(self, count: int) -> tuple[Tensor, Tensor]:
        angles = self._angles(torch.arange(count, device=self._like.device))
        cos, sin = (each.reshape(count, 1, -1).to(self._like.dtype) for each in angles)
        half = sin.shape[-1] // 2
        return cos, torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate [T, heads, head_dim] by `RopeTable.rows`, halves paired as in Llama."""
    return torch.addcmul(states * cos, states.roll(states.shape[-1] // 2, -1), sin)
