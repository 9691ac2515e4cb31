"""Keys and values of all layers in one buffer each, written in place."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

FIRST_CAPACITY = 256
"""Tokens that a fresh buffer holds."""


class LayerViews(NamedTuple):
    """A layer's part of the buffers in one forward, each [1, kv heads, tokens, head_dim].

    Attributes:
        new_keys: where the forward's own keys go.
        new_values: where its values go.
        keys: all that its queries may see: what is held, then its own.
        values: the same.
    """

    new_keys: Tensor
    new_values: Tensor
    keys: Tensor
    values: Tensor

    def last(self, num_keys: int) -> "LayerViews":
        """With only the last keys to be seen."""
        start = self.keys.shape[2] - num_keys
        return self._replace(
            keys=self.keys.narrow(2, start, num_keys), values=self.values.narrow(2, start, num_keys)
        )


class StaticKV:
    """A cache that goes back by a number: rejected tokens are written over.

    It grows by doubling, so that a step copies nothing but what it adds.

    Args:
        num_layers: of the model.
        num_kv_heads: of each layer.
        head_dim: of keys and values.
        like: any tensor of the model; gives dtype and device.

    Attributes:
        length: tokens held.
    """

    def __init__(
        self,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        like: Tensor,
    ) -> None:
        self.length = 0
        self._shape = (num_layers, 1, num_kv_heads, head_dim)
        self._like = like
        self._keys, self._values = self._empty(0), self._empty(0)

    @property
    def capacity(self) -> int:
        """Tokens that the buffers hold without growing."""
        return self._keys.shape[3]

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens now, so that no later step has to.

        Args:
            length: tokens in all, of the context and of a block that may be rejected.
        """
        if length <= self.capacity:
            return
        capacity = max(FIRST_CAPACITY, 2 * length)
        old_keys, old_values = self._keys, self._values
        self._keys, self._values = self._empty(capacity), self._empty(capacity)
        self._keys[..., : self.length, :] = old_keys[..., : self.length, :]
        self._values[..., : self.length, :] = old_values[..., : self.length, :]

    def views(self, num_tokens: int) -> Iterator[LayerViews]:
        """Of every layer, for `num_tokens` more; they count once `length` is moved."""
        end = self.length + num_tokens
        self.reserve(end)
        keys, values = self._keys, self._values
        new = (each.narrow(3, self.length, num_tokens).unbind() for each in (keys, values))
        seen = (each.narrow(3, 0, end).unbind() for each in (keys, values))
        return map(LayerViews, *new, *seen)

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Add tokens of all layers at once.

        Args:
            keys: [T, layers * kv heads, head_dim].
            values: the same.
        """
        num_layers, _, num_kv_heads, head_dim = self._shape
        num_tokens = keys.shape[0]
        self.reserve(self.length + num_tokens)
        shape = (num_tokens, num_layers, 1, num_kv_heads, head_dim)
        for buffer, new in ((self._keys, keys), (self._values, values)):
            room = buffer.narrow(3, self.length, num_tokens)
            room.copy_(new.view(shape).permute(1, 2, 3, 0, 4))
        self.length += num_tokens

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens; see `rollback.RewindableCache`. Costs nothing.

        Args:
            tokens_to_remove: minus their number.

        Raises:
            ValueError: a positive number, or more than are held.
        """
        if not 0 <= self.length + tokens_to_remove <= self.length:
            raise ValueError(f"cannot remove {-tokens_to_remove} of {self.length} tokens")
        self.length += tokens_to_remove

    def memory_bytes(self) -> int:
        """Bytes of the buffers."""
        return self._keys.nbytes + self._values.nbytes

    def _empty(self, capacity: int) -> Tensor:
        num_layers, batch, num_kv_heads, head_dim = self._shape
        return torch.empty(
            (num_layers, batch, num_kv_heads, capacity, head_dim),
            dtype=self._like.dtype,
            device=self._like.device,
        )
