"""The drafter's context: keys and values of committed tokens, layer by layer."""

import torch
from torch import Tensor

from dflash_app.backends.torch.dflash import ContextKV
from dflash_app.backends.torch.dflash_layer import LayerKV

_FIRST_CAPACITY = 256


class ContextCache:
    """Grows by doubling, so that a step copies only what it appends.

    Attributes:
        length: tokens held.
    """

    def __init__(self) -> None:
        self.length = 0
        self._buffers: list[LayerKV] = []

    def append(self, new: ContextKV) -> None:
        """Add tokens at the end.

        Args:
            new: `DFlashDrafter.project_context` of the tokens that follow those held.
        """
        end = self.length + new[0][0].shape[2]
        if not self._buffers or end > self._buffers[0][0].shape[2]:
            capacity = max(_FIRST_CAPACITY, 2 * end)
            self._buffers = [
                (self._grown(layer, 0, capacity, states), self._grown(layer, 1, capacity, states))
                for layer, (states, _) in enumerate(new)
            ]
        for (keys, values), (new_keys, new_values) in zip(self._buffers, new, strict=True):
            keys[:, :, self.length : end] = new_keys
            values[:, :, self.length : end] = new_values
        self.length = end

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens."""
        self.length = min(self.length, length)

    def layers(self) -> ContextKV:
        """Views of what is held, as `DFlashDrafter.draft` takes it."""
        held = slice(0, self.length)
        return [(keys[:, :, held], values[:, :, held]) for keys, values in self._buffers]

    def _grown(self, layer: int, part: int, capacity: int, like: Tensor) -> Tensor:
        batch, heads, _, size = like.shape
        grown = torch.empty(batch, heads, capacity, size, dtype=like.dtype, device=like.device)
        if self._buffers:
            grown[:, :, : self.length] = self._buffers[layer][part][:, :, : self.length]
        return grown
