"""Caches that go back: after a block is verified, what was rejected leaves no trace."""

from copy import deepcopy
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import ArraysCache, KVCache, QuantizedKVCache, RotatingKVCache

from dflash_app.backends.mlx.context import ContextCache
from dflash_app.backends.mlx.gated_delta import ReplayMixer, with_replay
from dflash_app.backends.mlx.weights import named_arrays
from dflash_app.engine.prefix import Prefix
from dflash_app.errors import UnsupportedFormat

_KNOWN = (KVCache, QuantizedKVCache, RotatingKVCache, ArraysCache)


class TargetCache:
    """The caches of a target's layers, and the body of the model that fills them.

    Args:
        body: of mlx-lm.
        layers: a cache per layer, as mlx-lm makes them for the model.

    Attributes:
        body: a view of the model; recurrent layers go back in it.
        layers: the caches.

    Raises:
        UnsupportedFormat: a cache of a kind that cannot go back.
    """

    def __init__(self, body: Any, layers: list[Any]) -> None:
        for layer in layers:
            if type(layer) not in _KNOWN:
                raise UnsupportedFormat(
                    f"mlx-lm keeps a {type(layer).__name__} for this target, which cannot forget "
                    "rejected drafts: use the torch backend."
                )
        self.layers = layers
        self._mixers: dict[int, ReplayMixer] = {}
        self.body = body
        if any(type(layer) is ArraysCache for layer in layers):
            self.body, self._mixers = with_replay(body)

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens, as if they had never been read.

        Args:
            tokens_to_remove: minus their number, at most those of the last forward. 0 keeps all of
                it: what is held only to go back is freed.
        """
        for index, layer in enumerate(self.layers):
            if index in self._mixers:
                self._mixers[index].crop(layer, tokens_to_remove)
            elif tokens_to_remove:
                _trim(layer, -tokens_to_remove)

    def cut(self, tokens_to_remove: int) -> bool:
        """Take the last tokens off, however many, where all layers allow it.

        Args:
            tokens_to_remove: minus their number; the cache is cropped after its last forward.

        Returns:
            False, and the cache is as it was, where a layer does not allow it.
        """
        if tokens_to_remove == 0:
            return True
        if not all(_holds(layer, -tokens_to_remove) for layer in self.layers):
            return False
        for layer in self.layers:
            _trim(layer, -tokens_to_remove)
        return True

    @property
    def takes_back_one_token(self) -> bool:
        """Whether `crop` takes back a forward of one token: to it a full window loses another."""
        return all(type(layer) is not RotatingKVCache for layer in self.layers)

    def replayed(self) -> list[mx.array]:
        """The states that `crop` describes anew, to be evaluated."""
        return [array for index in self._mixers for array in self.layers[index].cache]

    def arrays(self) -> list[mx.array]:
        """Everything held, to be evaluated."""
        return [array for _, array in named_arrays([layer.state for layer in self.layers])]


class Savepoint:
    """Copies of a cache's layers that cannot be cut anywhere.

    Args:
        cache: settled: cropped after its last forward.
        length: tokens in it.
    """

    def __init__(self, cache: TargetCache, length: int) -> None:
        self.length = length
        self._layers = {
            index: deepcopy(layer)
            for index, layer in enumerate(cache.layers)
            if not _holds_tokens_apart(layer)
        }

    def restore(self, cache: TargetCache, length: int) -> None:
        """Put the cache back to what it was; the savepoint stays good.

        Args:
            cache: the same, grown since.
            length: tokens in it, at least those of the savepoint.
        """
        for index, layer in enumerate(cache.layers):
            if index in self._layers:
                cache.layers[index] = deepcopy(self._layers[index])
            elif length > self.length:
                _trim(layer, length - self.length)


def needs_savepoints(cache: TargetCache) -> bool:
    """Whether caches of this kind cannot be cut anywhere at every length."""
    return not all(_holds_tokens_apart(layer) for layer in cache.layers)


def _holds_tokens_apart(layer: Any) -> bool:
    return type(layer) in (KVCache, QuantizedKVCache)


def _holds(layer: Any, num_tokens: int) -> bool:
    """Whether a layer still has all that it needs after its last tokens are taken off."""
    if type(layer) is RotatingKVCache:
        length = layer.offset - num_tokens
        held = min(layer.offset, 0 if layer.keys is None else layer.keys.shape[2])
        return bool(held - num_tokens >= min(length, layer.max_size))
    return _holds_tokens_apart(layer)


def _trim(layer: Any, num_tokens: int) -> None:
    if type(layer) is RotatingKVCache:
        _trim_rotating(layer, num_tokens)
    else:
        layer.trim(num_tokens)


def _trim_rotating(layer: Any, num_tokens: int) -> None:
    """Take the last tokens off a window: mlx-lm's own trim is wrong once it has turned round."""
    if layer.keys is None:
        return
    kept = min(layer.offset, layer.keys.shape[2]) - num_tokens
    layer.keys = layer._temporal_order(layer.keys)[..., :kept, :]
    layer.values = layer._temporal_order(layer.values)[..., :kept, :]
    layer.offset -= num_tokens
    layer._idx = kept


def new_prefix(cache: TargetCache) -> Prefix[ContextCache]:
    """Nothing read yet.

    Args:
        cache: the target's, empty.
    """
    return Prefix(cache, ContextCache(), cut=TargetCache.cut, save=Savepoint)
