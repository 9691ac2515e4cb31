"""A cache at one length, to go back to later than its last forward.

Full and indexed attention hold every token apart and can be cut anywhere. Sliding windows forget
what left them, recurrent states and compressed windows mix their tokens: of those a copy is kept.
"""

from copy import copy, deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicIndexedLayer, DynamicLayer, DynamicSlidingWindowLayer

from dflash_app.backends.torch.deferred import DeferredContext
from dflash_app.backends.torch.drafting import Drafter, DraftingContext, NoContext
from dflash_app.backends.torch.snapshot import SnapshotCache
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.engine.prefix import Prefix


class Savepoint:
    """Copies of a cache's layers that cannot be cut anywhere.

    Args:
        cache: as `TorchTarget.new_cache` makes it, settled: cropped after its last forward.
        length: tokens in it.
    """

    @torch.inference_mode()
    def __init__(self, cache: Any, length: int) -> None:
        self.length = length
        self._layers = {
            index: _copied_layer(layer)
            for index, layer in enumerate(_layers(cache))
            if not _holds_tokens_apart(cache, layer)
        }

    @torch.inference_mode()
    def restore(self, cache: Any, length: int) -> None:
        """Put the cache back to what it was; the savepoint stays good.

        Args:
            cache: the same, grown since.
            length: tokens in it, at least those of the savepoint.
        """
        for index, layer in enumerate(cache.layers):
            if index in self._layers:
                cache.layers[index] = _copied_layer(self._layers[index])
            else:
                layer.crop(self.length - length)


def needs_savepoints(cache: Any) -> bool:
    """Whether caches of this kind cannot be cut anywhere at every length.

    Args:
        cache: as `TorchTarget.new_cache` makes it.
    """
    return not all(_holds_tokens_apart(cache, layer) for layer in _layers(cache))


@torch.inference_mode()
def cut(cache: Any, tokens_to_remove: int) -> bool:
    """Take the last tokens off a settled cache, however many, where all its layers allow it.

    Args:
        cache: as `TorchTarget.new_cache` makes it.
        tokens_to_remove: minus their number.

    Returns:
        False, and the cache is as it was, where a layer does not allow it.
    """
    if tokens_to_remove == 0:
        return True
    if not all(_holds_tokens_apart(cache, layer, now=True) for layer in _layers(cache)):
        return False
    cache.crop(tokens_to_remove)
    return True


def _layers(cache: Any) -> list[Any]:
    """Of a cache of transformers; one of our own that is made otherwise can be cut anywhere."""
    return cache.layers if isinstance(cache, Cache) else []


def _holds_tokens_apart(cache: Any, layer: Any, *, now: bool = False) -> bool:
    """Whether a layer can be cut anywhere, at every length or `now`."""
    if isinstance(cache, SnapshotCache):
        return False  # it is for layers that nobody has looked at
    if now and type(layer) is DynamicSlidingWindowLayer:
        return bool(layer.cumulative_length < layer.sliding_window)
    return type(layer) in (DynamicLayer, DynamicIndexedLayer)


def _copied_layer(layer: Any) -> Any:
    """A layer with tensors of its own, as some are written in place; views become compact."""
    copied = copy(layer)
    vars(copied).update({name: _copied(value) for name, value in vars(layer).items()})
    return copied


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return deepcopy(value)


def new_prefix(target: TorchTarget, drafter: Drafter | None) -> Prefix[DraftingContext]:
    """Nothing read yet.

    Args:
        target: that will read.
        drafter: that will draft after what was read, now or in a later turn.
    """
    context = NoContext() if drafter is None else DeferredContext(drafter.new_context())
    return Prefix(target.new_cache(), context, cut=cut, save=Savepoint)
