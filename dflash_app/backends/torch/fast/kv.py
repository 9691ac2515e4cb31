"""Keys and values of all layers in one buffer each, written in place."""

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dflash_app.backends.torch.fast.attention import attend, attend_in_splits
from dflash_app.engine.out_of_memory import is_out_of_memory
from dflash_app.hub.capacity import capacity_of

MAX_SPARE = 2
"""Buffers kept for the next caches: those of a race of two."""


class Views(Protocol):
    """What a layer's attention does with the buffers."""

    def write(self, keys: Tensor, values: Tensor) -> None:
        """Put the forward's own keys and values, [kv heads, T, head_dim], where they belong."""

    def attend(self, queries: Tensor, mask: Tensor | None) -> Tensor:
        """[T, heads, head_dim] -> [T, heads * head_dim]; see `attention.attend`."""


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

    def write(self, keys: Tensor, values: Tensor) -> None:
        """See `Views.write`."""
        self.new_keys.copy_(keys)
        self.new_values.copy_(values)

    def attend(self, queries: Tensor, mask: Tensor | None) -> Tensor:
        """See `Views.attend`."""
        return attend(queries, self.keys, self.values, mask)


class BucketViews(NamedTuple):
    """A layer's part of the buffers where only the device knows how many tokens are held.

    Attributes:
        keys: a bucket of them, [1, kv heads, bucket, head_dim].
        values: the same.
        positions: [T] int64, of the forward's own tokens.
        seen: [S] int64, positions of the keys that the mask is for; None or as many as the bucket
            holds: all of them.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    seen: Tensor | None = None

    def only(self, seen: Tensor) -> "BucketViews":
        """With only the keys at these positions to be seen."""
        return self._replace(seen=seen)

    def write(self, keys: Tensor, values: Tensor) -> None:
        """See `Views.write`."""
        self.keys.index_copy_(2, self.positions, keys[None])
        self.values.index_copy_(2, self.positions, values[None])

    def attend(self, queries: Tensor, mask: Tensor | None) -> Tensor:
        """See `Views.attend`.

        Raises:
            ValueError: there is no mask, so that keys would be seen that nobody wrote.
        """
        if mask is None:
            raise ValueError("a bucket is not full: attention over it needs a mask")
        keys, values = self.keys, self.values
        if self.seen is not None and self.seen.shape[0] < keys.shape[2]:
            keys, values = keys.index_select(2, self.seen), values.index_select(2, self.seen)
        return attend_in_splits(queries, keys, values, mask)


class Buffers:
    """Room for keys and values, and what was recorded on it.

    Args:
        shape: layers, 1, kv heads, tokens, head_dim.
        like: any tensor of the model; gives dtype and device.

    Attributes:
        keys: of that shape.
        values: the same.
        steps: recorded ones; they go with the buffers, whose addresses they hold.
    """

    def __init__(self, shape: tuple[int, ...], like: Tensor) -> None:
        # Zeros: a hidden key takes part in products, and nothing times NaN would be NaN.
        self.keys = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.values = torch.zeros_like(self.keys)
        self.steps: dict[Hashable, Any] = {}

    @property
    def capacity(self) -> int:
        """Tokens that they hold."""
        return self.keys.shape[3]

    @property
    def nbytes(self) -> int:
        """Of keys and values."""
        return self.keys.nbytes + self.values.nbytes

    def views(self, bucket: int, positions: Tensor) -> Iterator[BucketViews]:
        """Of every layer: a step at `positions` that sees tokens of the bucket and no others."""
        for keys, values in zip(self.keys.unbind(), self.values.unbind(), strict=True):
            yield BucketViews(keys.narrow(2, 0, bucket), values.narrow(2, 0, bucket), positions)

    def write(self, positions: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put tokens of all layers at [T] int64 positions; as `StaticKV.append` takes them."""
        self.keys.index_copy_(3, positions, self.by_layer(keys))
        self.values.index_copy_(3, positions, self.by_layer(values))

    def by_layer(self, states: Tensor) -> Tensor:
        """[T, layers * kv heads, head_dim] -> [layers, 1, kv heads, T, head_dim]."""
        num_layers, batch, num_kv_heads, _, head_dim = self.keys.shape
        shape = (states.shape[0], num_layers, batch, num_kv_heads, head_dim)
        return states.view(shape).permute(1, 2, 3, 0, 4)


class SpareBuffers:
    """Buffers of caches that are gone: the next cache takes them with what was recorded on them.

    First in, first out: the lanes of a race that is run again find the steps of their own kind.
    Caches come and go on several threads: a list's own pop and append need no lock.
    """

    def __init__(self) -> None:
        self._held: list[Buffers] = []

    @property
    def nbytes(self) -> int:
        """Of all of them."""
        return sum(each.nbytes for each in self._held)

    def take(self, capacity: int) -> Buffers | None:
        """Buffers of at least that capacity; smaller ones in the way are freed."""
        while self._held:
            try:
                buffers = self._held.pop(0)
            except IndexError:  # another thread was quicker
                return None
            if buffers.capacity >= capacity:
                return buffers
        return None

    def put(self, buffers: Buffers) -> None:
        """Keep buffers for the next cache, or free them where enough are kept."""
        if len(self._held) < MAX_SPARE:
            self._held.append(buffers)

    def clear(self) -> None:
        """Free them."""
        self._held.clear()


class StaticKV:
    """A cache that goes back by a number: rejected tokens are written over.

    It grows to powers of two, so that a step copies nothing but what it adds.

    Args:
        num_layers: of the model.
        num_kv_heads: of each layer.
        head_dim: of keys and values.
        like: any tensor of the model; gives dtype and device.
        spare: where its buffers come from and go to; None makes and frees them.

    Attributes:
        length: tokens held.
    """

    def __init__(
        self,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        like: Tensor,
        spare: SpareBuffers | None = None,
    ) -> None:
        self.length = 0
        self._shape = (num_layers, 1, num_kv_heads, head_dim)
        self._like = like
        self._spare = spare
        self.buffers = self._new(0)

    @property
    def capacity(self) -> int:
        """Tokens that the buffers hold without growing."""
        return self.buffers.capacity

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens now, so that no later step has to.

        Args:
            length: tokens in all, of the context and of a block that may be rejected.
        """
        if length <= self.capacity:
            return
        old, new = self.buffers, None
        if self._spare is not None:
            new = self._spare.take(length)
        if new is None:
            new = self._grown(length)
        new.keys[..., : self.length, :] = old.keys[..., : self.length, :]
        new.values[..., : self.length, :] = old.values[..., : self.length, :]
        self.buffers = new
        # Steps hold the buffers that hold them, which would stay until the next collection.
        old.steps.clear()

    def views(self, num_tokens: int) -> Iterator[LayerViews]:
        """Of every layer, for `num_tokens` more; they count once `length` is moved."""
        end = self.length + num_tokens
        self.reserve(end)
        keys, values = self.buffers.keys, self.buffers.values
        new = (each.narrow(3, self.length, num_tokens).unbind() for each in (keys, values))
        seen = (each.narrow(3, 0, end).unbind() for each in (keys, values))
        return map(LayerViews, *new, *seen)

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Add tokens of all layers at once.

        Args:
            keys: [T, layers * kv heads, head_dim].
            values: the same.
        """
        num_tokens = keys.shape[0]
        self.reserve(self.length + num_tokens)
        for buffer, new in ((self.buffers.keys, keys), (self.buffers.values, values)):
            buffer.narrow(3, self.length, num_tokens).copy_(self.buffers.by_layer(new))
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
        return self.buffers.nbytes

    def __del__(self) -> None:
        if self._spare is not None and self.capacity:
            self._spare.put(self.buffers)

    def _grown(self, length: int) -> Buffers:
        try:
            return self._new(capacity_of(length))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Only now, as the error held what had been made.
        return self._new(length)

    def _new(self, capacity: int) -> Buffers:
        return Buffers((*self._shape[:3], capacity, self._shape[3]), self._like)
