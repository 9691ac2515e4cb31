"""Every cache that mlx-lm makes forgets what was rejected, as if it had never been read."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import CacheList, KVCache, QuantizedKVCache, RotatingKVCache

from dflash_app.backends.mlx.rollback import Savepoint, TargetCache, needs_savepoints
from dflash_app.errors import UnsupportedFormat

HEADS, SIZE, WINDOW = 2, 64, 5
MAKERS: dict[str, Callable[[], Any]] = {
    "full": KVCache,
    "8 bits": lambda: QuantizedKVCache(group_size=64, bits=8),
    "4 bits": lambda: QuantizedKVCache(group_size=64, bits=4),
    "window": lambda: RotatingKVCache(max_size=WINDOW),
}


def states(start: int, length: int) -> mx.array:
    """The keys of positions, each unlike any other's."""
    return mx.concatenate(
        [
            mx.random.normal((1, HEADS, 1, SIZE), key=mx.random.key(position))
            for position in range(start, start + length)
        ],
        axis=2,
    )


def feed(cache: TargetCache, start: int, length: int) -> list[mx.array]:
    """Read positions; returns what attention would see."""
    new = states(start, length)
    seen = cache.layers[0].update_and_fetch(new, new)[0]
    return list(seen) if isinstance(seen, tuple) else [seen]


def visible(cache: TargetCache, arrays: list[mx.array]) -> list[list[float]]:
    """What the last query may see, in no order: a rotating window has its own."""
    span = arrays[0].shape[2]
    if isinstance(cache.layers[0], RotatingKVCache):
        span = min(span, WINDOW)
    rows = [array[0, :, -span:].reshape(HEADS, span, -1) for array in arrays]
    return sorted(
        [float(value) for row in rows for value in row[:, column].flatten().tolist()]
        for column in range(span)
    )


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("held", [2, 4, 9, 300])
@pytest.mark.parametrize(("block", "rejected"), [(2, 1), (8, 7), (8, 3), (4, 2)])
@pytest.mark.parametrize("then", [1, 6])
def test_after_a_crop_it_holds_what_it_would_without_the_rejected(
    kind: str, held: int, block: int, rejected: int, then: int
) -> None:
    cache, fresh = (TargetCache(None, [MAKERS[kind]()]) for _ in range(2))
    for each in (cache, fresh):
        feed(each, 0, held)
    kept = block - rejected
    feed(cache, held, block)
    cache.crop(-rejected)
    feed(fresh, held, kept)
    assert cache.layers[0].offset == fresh.layers[0].offset == held + kept
    found, expected = (feed(each, held + kept, then) for each in (cache, fresh))
    assert visible(cache, found) == visible(fresh, expected)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_savepoint_brings_back_what_was_held(kind: str) -> None:
    cache, fresh = (TargetCache(None, [MAKERS[kind]()]) for _ in range(2))
    for each in (cache, fresh):
        feed(each, 0, 9)
    assert needs_savepoints(cache) is (kind == "window")
    saved = Savepoint(cache, 9)
    for _ in range(2):
        for position in range(9, 20):
            feed(cache, position, 1)
        saved.restore(cache, 20)
        assert cache.layers[0].offset == 9
    found, expected = (feed(each, 9, 1) for each in (cache, fresh))
    assert visible(cache, found) == visible(fresh, expected)


def test_a_window_is_cut_only_while_it_holds_what_it_needs() -> None:
    cache = TargetCache(None, [RotatingKVCache(max_size=WINDOW)])
    feed(cache, 0, 4)
    assert cache.cut(-3)
    assert cache.layers[0].offset == 1
    feed(cache, 1, 20)
    cache.crop(0)
    assert cache.cut(-15)  # a forward's own tokens are all there until the next
    feed(cache, 6, 6)
    assert not cache.cut(-7)
    assert cache.layers[0].offset == 12


def test_a_cache_that_cannot_go_back_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedFormat, match=r"CacheList.*torch backend"):
        TargetCache(None, [CacheList(KVCache())])
