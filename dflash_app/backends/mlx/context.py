"""The drafter's context: keys and values of committed tokens, layer by layer."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import mlx.core as mx
from mlx_lm.models.cache import KVCache

LayerKV: TypeAlias = tuple[mx.array, mx.array]
"""Keys (rotated) and values, [1, kv heads, T, head_dim]."""


class ContextCache:
    """Grows in steps; the block's own keys stand behind it while the block is drafted.

    Tokens of plain steps wait for the next block: projecting each by itself would read the
    drafter's weights in every step of a run that has fallen back to AR.

    Attributes:
        length: tokens held, waiting ones included.
    """

    def __init__(self) -> None:
        self.length = 0
        self._layers: list[Any] = []
        self._waiting: list[mx.array] = []

    @property
    def num_waiting(self) -> int:
        """Tokens whose states are kept and not yet projected."""
        return len(self._waiting)

    def wait(self, tapped: mx.array) -> None:
        """Add a token at the end by its states, [1, 1, taps * hidden]."""
        self._waiting.append(tapped)
        self.length += 1

    def take_waiting(self) -> list[mx.array]:
        """The states of the tokens that wait, which are held no more: they come back projected."""
        taken, self._waiting = self._waiting, []
        self.length -= len(taken)
        return taken

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
        while self._waiting and self.length > length:
            self._waiting.pop()
            self.length -= 1
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
        """Views of what is held and does not wait."""
        held = slice(0, self.length - self.num_waiting)
        return [(cache.keys[:, :, held], cache.values[:, :, held]) for cache in self._layers]

    def arrays(self) -> list[mx.array]:
        """All that is held, to be evaluated."""
        held = [array for cache in self._layers for array in (cache.keys, cache.values)]
        return held + self._waiting
