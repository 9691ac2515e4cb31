"""The drafter's context: keys and values of committed tokens, layer by layer."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import mlx.core as mx
from mlx_lm.models.cache import KVCache

LayerKV: TypeAlias = tuple[mx.array, mx.array]
"""Keys (rotated) and values, [1, kv heads, T, head_dim]."""


class ContextCache:
    """Grows in steps; the block's own keys stand behind it while the block is drafted.

    Attributes:
        length: tokens held.
    """

    def __init__(self) -> None:
        self.length = 0
        self._layers: list[Any] = []

    def append(self, new: Sequence[LayerKV]) -> None:
        """Add tokens at the end.

        Args:
            new: `DFlashDrafter.project_context` of the tokens that follow those held.
        """
        if not self._layers:
            self._layers = [KVCache() for _ in new]
        for cache, (keys, values) in zip(self._layers, new, strict=True):
            cache.update_and_fetch(keys, values)
        self.length += new[0][0].shape[2]

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens."""
        for cache in self._layers:
            cache.trim(max(0, self.length - length))
        self.length = min(self.length, length)

    def with_block(self, layer: int, keys: mx.array, values: mx.array) -> LayerKV:
        """What is held of a layer and a block behind it, which is not kept."""
        cache = self._layers[layer]
        seen: LayerKV = cache.update_and_fetch(keys, values)
        cache.trim(keys.shape[2])
        return seen

    def layers(self) -> list[LayerKV]:
        """Views of what is held."""
        held = slice(0, self.length)
        return [(cache.keys[:, :, held], cache.values[:, :, held]) for cache in self._layers]

    def arrays(self) -> list[mx.array]:
        """The buffers, to be evaluated."""
        return [array for cache in self._layers for array in (cache.keys, cache.values)]
