"""The drafter's context: keys and values of committed tokens, layer by layer."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dflash_app.backends.torch.dflash_layer import ContextKV, LayerKV
from dflash_app.hub.capacity import capacity_of

if TYPE_CHECKING:
    from dflash_app.backends.torch.dflash import DFlashDrafter


class ContextCache:
    """`drafting.DraftingContext` of a `DFlashDrafter`.

    It grows to powers of two, so that a step copies only what it appends.

    Args:
        drafter: whose it is.

    Attributes:
        length: tokens held.
    """

    def __init__(self, drafter: "DFlashDrafter") -> None:
        self.length = 0
        self._drafter = drafter
        self._buffers: list[LayerKV] = []

    def extend(self, tapped: Tensor) -> None:
        """Add committed tokens at the end.

        Args:
            tapped: [1, T, taps * hidden], the target's states of them.
        """
        start, end = self.length, self.length + tapped.shape[1]
        positions = torch.arange(start, end, device=tapped.device)
        new = self._drafter.project_context(tapped, positions)
        if not self._buffers or end > self._buffers[0][0].shape[2]:
            capacity = capacity_of(end)
            self._buffers = [
                (self._grown(layer, 0, capacity, states), self._grown(layer, 1, capacity, states))
                for layer, (states, _) in enumerate(new)
            ]
        for (keys, values), (new_keys, new_values) in zip(self._buffers, new, strict=True):
            keys[:, :, start:end] = new_keys
            values[:, :, start:end] = new_values
        self.length = end

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens."""
        self.length = min(self.length, length)

    def draft(self, block_embeddings: Tensor) -> Tensor:
        """Run one block after all tokens held; see `DFlashDrafter.draft`."""
        return self._drafter.draft(block_embeddings, self.layers(), self.length)

    def layers(self) -> ContextKV:
        """Views of what is held."""
        held = slice(0, self.length)
        return [(keys[:, :, held], values[:, :, held]) for keys, values in self._buffers]

    def _grown(self, layer: int, part: int, capacity: int, like: Tensor) -> Tensor:
        batch, heads, _, size = like.shape
        grown = torch.empty(batch, heads, capacity, size, dtype=like.dtype, device=like.device)
        if self._buffers:
            grown[:, :, : self.length] = self._buffers[layer][part][:, :, : self.length]
        return grown
