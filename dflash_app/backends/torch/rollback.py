"""Caches that go back: after a block is verified, what was rejected leaves no trace."""

from typing import Any, Protocol

from transformers import DynamicCache

from dflash_app.backends.torch.families import RollbackKind
from dflash_app.backends.torch.gated_delta import with_replay
from dflash_app.backends.torch.snapshot import SnapshotCache


class RewindableCache(Protocol):
    """What a lane needs of a cache, beside that the target's forward reads and grows it."""

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens, as if they had never been read.

        Args:
            tokens_to_remove: minus their number, as transformers counts, at most those of the
                last forward. 0 keeps all of it: what is held only to go back is freed.
        """


def new_cache(model: Any, kind: RollbackKind) -> RewindableCache:
    """An empty cache for one request.

    Args:
        model: from transformers.
        kind: how its family goes back.
    """
    if kind == "snapshot":
        return SnapshotCache(model)
    cache: Any = DynamicCache(config=model.config)
    if kind == "replay":
        cache.layers = with_replay(cache.layers)
    elif kind == "slice":
        # It needs the family's own modelling code, which no other family loads.
        from dflash_app.backends.torch.compressor import with_slicing

        cache.layers = with_slicing(cache.layers, model.config)
    cache.activate_past_recording()
    rewindable: RewindableCache = cache
    return rewindable
