"""Steps that are recorded compute what the others compute, at lengths they were not recorded at."""

import gc
import weakref
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.fast import FastDrafter, FastTarget
from dflash_app.backends.torch.fast.recorder import Eager
from dflash_app.backends.torch.fast.steps import FIRST_BUCKET, bucket_of, width_of
from tests.backends.torch.fast.test_drafter import CONFIGS, states
from tests.backends.torch.fast.test_target import LAST_AND_OTHERS, assert_close, tokens
from tests.backends.torch.fast.traced import Traced


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def plain(request: pytest.FixtureRequest, both_targets: Callable[..., Any]) -> tuple[Any, Any]:
    """A model, and its ordinary fast path."""
    slow, fast = both_targets(request.param, bfloat16=False)
    return slow.model, fast


def test_buckets_hold_what_they_are_for_and_are_few() -> None:
    buckets = [bucket_of(length) for length in range(1, 40_000)]
    assert buckets == sorted(buckets)
    assert all(bucket >= length for length, bucket in enumerate(buckets, 1))
    assert all(bucket % FIRST_BUCKET == 0 for bucket in buckets)
    assert all(b <= 1.5 * length for length, b in enumerate(buckets, 1) if length > 1024)
    assert sorted(set(buckets))[:8] == [512, 1024, 1536, 2048, 3072, 4096, 6144, 8192]
    assert [width_of(n) for n in (1, 2, 3, 8, 9, 16, 33)] == [1, 2, 4, 8, 16, 16, 64]


@pytest.mark.usefixtures("small_buckets")
def test_logits_and_taps_agree_in_every_bucket_after_every_crop(plain: Any) -> None:
    model, fast = plain
    recorder = Traced()
    mine = FastTarget(deepcopy(model), recorder)
    caches = fast.new_cache(), mine.new_cache()
    for seed, (count, num_logits, taps, cut) in enumerate(
        [
            *((9, 1, (), 0), (16, 16, LAST_AND_OTHERS, 15), (16, 16, LAST_AND_OTHERS, 3)),
            *((1, 1, LAST_AND_OTHERS, 0), (11, 11, LAST_AND_OTHERS, 10), (1, 1, (), 0)),
            *((30, 1, (), 0), (16, 16, LAST_AND_OTHERS, 9), (9, 9, LAST_AND_OTHERS, 0)),
            *((90, 1, (), 0), (1, 1, (), 0), (16, 16, LAST_AND_OTHERS, 7), (1, 1, (), 0)),
        ]
    ):
        ids = tokens(count, seed)
        expected, found = (
            target.forward(ids, cache, num_logits, taps)
            for target, cache in zip((fast, mine), caches, strict=True)
        )
        assert_close(found[0], expected[0])
        if taps:
            assert_close(found[1], expected[1])
        for cache in caches:
            cache.crop(-cut)
        assert caches[0].length == caches[1].length
    assert recorder.num_steps == 7


@pytest.mark.usefixtures("small_buckets")
def test_a_step_repeats_at_every_length_of_its_bucket(plain: Any) -> None:
    model, fast = plain
    recorder = Traced()
    mine, ids = FastTarget(deepcopy(model), recorder), tokens(64)
    cache = mine.new_cache()
    whole = fast.forward(ids, None, 64)[0]
    # The longest first: what it leaves behind the later ones' own tokens must not be seen.
    for length in range(56, 32, -1):
        cache.crop(-cache.length)
        mine.forward(ids[:length], cache, 1)
        for width in (1, 5, 8):
            logits, _ = mine.forward(ids[length : length + width], cache, width)
            assert_close(logits, whole[length : length + width])
            cache.crop(-width)
    assert recorder.num_steps == 4  # of 1 token and of 8, in buckets of 48 and 64


def test_a_step_asks_the_device_nothing_and_only_attention_grows(
    plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dflash_app.backends.torch.fast.steps.FIRST_BUCKET", 20)
    recorder = Traced()
    mine = FastTarget(deepcopy(plain[0]), recorder)
    for length in (8, 200):
        cache = mine.new_cache()
        mine.forward(tokens(length), cache, 1)
        mine.forward(tokens(8), cache, 8, (0,))
    sizes = []
    for graph, grown in zip(recorder.graphs, ({20, 256}, {240, 256}), strict=True):
        calls = [node for node in graph.nodes if node.op == "call_function"]
        names = " ".join(str(node.target) for node in calls)
        assert not any(asks in names for asks in ("_local_scalar_dense", "nonzero", "equal"))
        outputs = [n.meta["val"] for n in calls if isinstance(n.meta.get("val"), torch.Tensor)]
        sizes.append([tuple(each.shape) for each in outputs if not grown & {*each.shape}])
    assert len(recorder.graphs[0].nodes) == len(recorder.graphs[1].nodes)
    assert sizes[0] == sizes[1]
    assert len(sizes[0]) > 60


@pytest.mark.usefixtures("small_buckets")
@pytest.mark.parametrize("config", CONFIGS)
def test_drafts_agree_while_the_context_grows_and_is_cut(
    both_drafters: Callable[..., Any], config: str
) -> None:
    slow, fast = both_drafters(bfloat16=False, **CONFIGS[config])
    recorder = Traced()
    mine = FastDrafter(slow, recorder)
    contexts = fast.new_context(), mine.new_context()
    block = torch.randn(1, 16, 32)
    for seed, (count, cut, width) in enumerate(
        [(3, 0, 16), (5, 2, 16), (12, 0, 16), (16, 14, 16), (30, 11, 16), (1, 0, 16), (60, 0, 16)]
    ):
        for context in contexts:
            context.extend(states(count, seed))
            context.crop(context.length - cut)
        expected, found = (context.draft(block[:, :width]) for context in contexts)
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, atol=2e-5 * float(expected.abs().max()), rtol=0)
    assert contexts[0].length == contexts[1].length == 100


@pytest.mark.usefixtures("small_buckets")
def test_without_memory_for_one_more_the_rest_of_the_run_is_not_recorded(plain: Any) -> None:
    model, fast = plain
    recorder = Traced(max_steps=2)
    mine = FastTarget(deepcopy(model), recorder)
    assert mine.path == "traced steps"
    caches = fast.new_cache(), mine.new_cache()
    for seed, count in enumerate((8, 1, 1, 8, 8, 1, 16)):
        expected, found = (
            target.forward(tokens(count, seed), cache, count, (1,))
            for target, cache in zip((fast, mine), caches, strict=True)
        )
        assert_close(found[0], expected[0])
        assert_close(found[1], expected[1])
        assert bool(caches[1].buffers.steps) == (seed < 3)
    assert mine.path == "static cache: no memory for steps"
    assert fast.path == "static cache"


def test_the_next_cache_records_nothing_and_two_at_once_share_nothing(plain: Any) -> None:
    recorder = Eager()
    mine, ids = FastTarget(deepcopy(plain[0]), recorder), tokens(8)
    expected = plain[1].forward(ids, None, 8)[0]
    cache, beside = mine.new_cache(), mine.new_cache()
    first, _ = mine.forward(ids, cache, 8)
    other, _ = mine.forward(tokens(8, 1), beside, 8)
    assert recorder.num_steps == 2
    assert_close(first, expected)
    del cache, beside, other
    again, _ = mine.forward(ids, mine.new_cache(), 8)
    assert recorder.num_steps == 2
    assert_close(again, expected)


def test_a_target_that_is_gone_is_freed_at_once_with_what_was_recorded(plain: Any) -> None:
    mine = FastTarget(deepcopy(plain[0]), Traced())
    for length in (5, 6):
        mine.forward(tokens(length), mine.new_cache(), length)
    assert mine.steps.spare is not None
    buffers = weakref.ref(mine.steps.spare.take(1))
    freed = weakref.ref(mine)
    assert buffers() is None
    gc.disable()
    try:
        del mine
        assert freed() is None
    finally:
        gc.enable()
