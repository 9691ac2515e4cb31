"""Buffers go from one cache to the next, and a cache takes what memory there is."""

import gc

import pytest
import torch

from dflash_app.backends.torch.fast import kv
from dflash_app.backends.torch.fast.kv import MAX_SPARE, SpareBuffers, StaticKV

LIKE = torch.zeros(1)


def cache(spare: SpareBuffers | None, length: int = 0) -> StaticKV:
    made = StaticKV(2, 1, 4, LIKE, spare)
    made.reserve(length)
    return made


def test_the_next_cache_takes_the_buffers_of_the_last_and_its_steps() -> None:
    spare = SpareBuffers()
    first = cache(spare, 100)
    first.buffers.steps["step"] = 1
    buffers = first.buffers
    beside = cache(spare, 100)
    assert beside.buffers is not buffers
    del first
    assert spare.nbytes == buffers.nbytes
    second = cache(spare, 512)
    assert second.buffers is buffers
    assert second.buffers.steps == {"step": 1}
    assert (second.length, spare.nbytes) == (0, 0)


def test_buffers_that_are_too_small_are_freed_and_few_are_kept() -> None:
    spare = SpareBuffers()
    held = [cache(spare, 10) for _ in range(MAX_SPARE + 2)]
    one = held[0].memory_bytes()
    del held
    gc.collect()
    assert spare.nbytes == MAX_SPARE * one
    large = cache(spare, 5000)
    assert large.capacity == 8192
    assert spare.nbytes == 0


def test_what_was_held_moves_with_a_cache_that_grows() -> None:
    spare = SpareBuffers()
    used = cache(spare, 600)
    used.buffers.keys.fill_(7.0)
    del used
    grown = StaticKV(2, 1, 4, LIKE, spare)
    grown.buffers = kv.Buffers((2, 1, 1, 4, 4), LIKE)
    keys = torch.randn(3, 2, 4)
    grown.append(keys, -keys)
    grown.reserve(1000)
    assert grown.capacity == 1024
    assert torch.equal(grown.buffers.keys[:, 0, 0, :3], keys.transpose(0, 1))
    assert torch.equal(grown.buffers.values[:, 0, 0, :3], -keys.transpose(0, 1))


def test_what_nobody_wrote_is_zero() -> None:
    buffers = cache(None, 5000).buffers
    assert not buffers.keys.any()
    assert not buffers.values.any()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "cpu"],
)
def test_where_memory_is_short_a_cache_takes_no_more_than_it_needs(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    class Short(kv.Buffers):
        """Memory for 1000 tokens."""

        def __init__(self, shape: tuple[int, ...], like: torch.Tensor) -> None:
            if shape[3] > 1000:
                raise error
            super().__init__(shape, like)

    monkeypatch.setattr(kv, "Buffers", Short)
    spare = SpareBuffers()
    spare.put(cache(None, 300).buffers)
    short = cache(spare, 700)
    assert (short.capacity, spare.nbytes) == (700, 0)
    short.length = 700
    with pytest.raises(type(error)):
        short.reserve(1001)
    assert (short.capacity, short.length) == (700, 700)


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(kv.Buffers):
        def __init__(self, shape: tuple[int, ...], like: torch.Tensor) -> None:
            if shape[3] > 1000:
                raise RuntimeError("a kernel failed")
            super().__init__(shape, like)

    monkeypatch.setattr(kv, "Buffers", Broken)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        cache(None, 700)
