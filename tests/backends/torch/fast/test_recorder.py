"""A recorded step is the step: eagerly anywhere, as a CUDA graph where there is such a device."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.fast import FastDrafter, FastTarget
from dflash_app.backends.torch.fast.kv import StaticKV
from dflash_app.backends.torch.fast.recorder import CudaGraphs, Eager
from dflash_app.backends.torch.fast.steps import Fixed, FixedSteps, Place, choose_steps
from dflash_app.backends.torch.models import TorchModels
from dflash_app.request import SamplingParams
from tests.backends.torch.fast.test_lane import PROMPT, SAMPLINGS
from tests.backends.torch.fast.test_target import tokens

CUDA = torch.device("cuda", 0)
MAX_CAPTURE_S = 10.0


def needs_cuda(test: Any) -> Any:
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    return pytest.mark.gpu(skip(test))


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def double(rows: torch.Tensor, place: Place) -> tuple[torch.Tensor, ...]:
    return (2 * rows + place.positions[:, None],)


def on_cuda(
    make_target: Callable[..., Any], make_drafter: Callable[..., Any], dtype: torch.dtype
) -> tuple[TorchModels, TorchModels, tuple[CudaGraphs, CudaGraphs]]:
    """A pair that records nothing, the same with graphs, and its recorders."""
    target, drafter = make_target("qwen3", 96), make_drafter(96)
    target.model.to(CUDA, dtype)
    drafter.to(CUDA, dtype)
    plain = FastTarget(deepcopy(target.model)), FastDrafter(deepcopy(drafter))
    for each in plain:
        each.steps = FixedSteps(None)
    recorders = CudaGraphs(CUDA), CudaGraphs(CUDA)
    graphs = FastTarget(target.model, recorders[0]), FastDrafter(drafter, recorders[1])
    return TorchModels(*plain), TorchModels(*graphs), recorders


def test_outputs_stay_where_they_are_and_hold_the_last_run() -> None:
    steps = FixedSteps(Eager())
    cache = StaticKV(1, 1, 4, torch.zeros(1), steps.spare)
    fixed = Fixed("double", 4, double)
    (first,) = steps.run(cache, fixed, torch.ones(4, 1)) or ()
    assert first.tolist() == [[2.0], [3.0], [4.0], [5.0]]
    cache.length = 10
    (second,) = steps.run(cache, fixed, torch.ones(2, 1)) or ()
    assert second.data_ptr() == first.data_ptr()
    assert second[:2].tolist() == [[12.0], [13.0]]
    assert cache.length == 10


def test_graphs_are_for_cuda_alone() -> None:
    for name in ("cpu", "mps"):
        steps = choose_steps(torch.device(name))
        assert (steps.path, steps.spare) == ("static cache", None)
    assert (choose_steps(CUDA).path, choose_steps(CUDA).seconds) == ("CUDA graphs", 0.0)


def test_zero_gpu_forks_and_has_no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert choose_steps(CUDA).path == "static cache: ZeroGPU"
    assert choose_steps(CUDA).spare is None
    assert choose_steps(torch.device("cpu")).path == "static cache"
    monkeypatch.setenv("SPACES_ZERO_GPU", "0")
    assert choose_steps(CUDA).path == "CUDA graphs"


@needs_cuda
@pytest.mark.usefixtures("small_buckets")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replays_agree_with_the_ordinary_path_at_every_length(
    make_target: Callable[..., Any], make_drafter: Callable[..., Any], dtype: torch.dtype
) -> None:
    plain, graphs, (recorder, _) = on_cuda(make_target, make_drafter, dtype)
    caches = plain.target.new_cache(), graphs.target.new_cache()
    for seed, (count, cut) in enumerate([(16, 3), (1, 0), (9, 8), (16, 0), (1, 0)] * 6):
        ids = tokens(count, seed).to(CUDA)
        expected, found = (
            each.target.forward(ids, cache, count, (0, 3))
            for each, cache in zip((plain, graphs), caches, strict=True)
        )
        atol = (1e-4 if dtype == torch.float32 else 0.05) * float(expected[0].abs().max())
        for mine, theirs in zip(found, expected, strict=True):
            assert mine is not None
            assert torch.allclose(mine, theirs, atol=atol)
        for cache in caches:
            cache.crop(-cut)
    assert graphs.path == "CUDA graphs"
    assert 0 < recorder.seconds < MAX_CAPTURE_S


@needs_cuda
@pytest.mark.usefixtures("small_buckets")
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_lanes_of_graphs_put_out_the_same_tokens(
    make_target: Callable[..., Any], make_drafter: Callable[..., Any], run_lane: Any, sampling: str
) -> None:
    plain, graphs, recorders = on_cuda(make_target, make_drafter, torch.float32)
    for mode, num_draft in (("ar", 0), ("dflash", 15), ("dflash", 15)):
        expected, found = (
            run_lane(each.open_lane(SAMPLINGS[sampling], mode), PROMPT, 120, num_draft=num_draft)
            for each in (plain, graphs)
        )
        assert found.token_ids == expected.token_ids
    assert (graphs.path, graphs.drafter_path) == ("CUDA graphs", "CUDA graphs")
    assert sum(each.seconds for each in recorders) < MAX_CAPTURE_S


@needs_cuda
def test_a_replayed_step_waits_for_nothing(
    make_target: Callable[..., Any], make_drafter: Callable[..., Any]
) -> None:
    _, graphs, _ = on_cuda(make_target, make_drafter, torch.bfloat16)
    lane = graphs.open_lane(SamplingParams(), "dflash")
    lane.extend(PROMPT)
    lane.first_token()
    for _ in range(2):
        lane.rewind(len(PROMPT) + len(lane.verify(lane.propose(15)).token_ids))
        lane.rewind(len(PROMPT))
    cache, ids = graphs.target.new_cache(), tokens(16).to(CUDA)
    graphs.target.forward(ids, cache, 16)
    torch.cuda.set_sync_debug_mode("error")
    try:
        lane.propose(15)
        graphs.target.forward(ids, cache, 16)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_cuda
def test_closed_models_leave_no_memory_behind(
    make_target: Callable[..., Any], make_drafter: Callable[..., Any], run_lane: Any
) -> None:
    def held_bytes() -> int:
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated(CUDA)

    # Once before: what cuBLAS takes for itself is never given back.
    for _ in range(2):
        before = held_bytes()
        plain, graphs, _ = on_cuda(make_target, make_drafter, torch.bfloat16)
        for models in (plain, graphs):
            run_lane(models.open_lane(SamplingParams(), "dflash"), PROMPT, 60)
            models.close()
        del plain, graphs, models
    assert held_bytes() == before


@needs_cuda
@pytest.mark.parametrize("fails_at", [0, 1], ids=["warming up", "capturing"])
def test_memory_that_runs_out_is_said_and_the_device_goes_on(fails_at: int) -> None:
    runs = iter(range(10))

    def greedy(rows: torch.Tensor, place: Place) -> tuple[torch.Tensor, ...]:
        if next(runs) == fails_at:
            torch.empty(1 << 50, dtype=torch.uint8, device=CUDA)
        return double(rows, place)

    steps = FixedSteps(CudaGraphs(CUDA))
    cache = StaticKV(1, 1, 4, torch.zeros(1, device=CUDA), steps.spare)
    rows = torch.ones(4, 1, device=CUDA)
    stream = torch.cuda.current_stream()
    assert steps.run(cache, Fixed("greedy", 4, greedy), rows) is None
    assert steps.path == "static cache: no memory for CUDA graphs"
    assert torch.cuda.current_stream() == stream
    fresh = FixedSteps(CudaGraphs(CUDA))
    (out,) = fresh.run(cache, Fixed("double", 4, double), rows) or ()
    assert out[:, 0].tolist() == [2.0, 3.0, 4.0, 5.0]


@needs_cuda
def test_another_thread_may_use_the_device_while_a_step_is_captured(
    make_target: Callable[..., Any], make_drafter: Callable[..., Any]
) -> None:
    stop, errors = threading.Event(), []

    def use_the_device() -> None:
        try:
            while not stop.is_set():
                float(torch.randn(512, 512, device=CUDA).sum())
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=use_the_device)
    thread.start()
    try:
        _, graphs, (recorder, _) = on_cuda(make_target, make_drafter, torch.float32)
        for count in (1, 2, 4, 8, 16):
            graphs.target.forward(tokens(count).to(CUDA), graphs.target.new_cache(), count)
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert (recorder.num_steps, graphs.path) == (5, "CUDA graphs")


@needs_cuda
def test_the_device_tells_how_long_it_drafted_and_which_steps_were_captured(
    make_target: Callable[..., Any], make_drafter: Callable[..., Any]
) -> None:
    _, graphs, _ = on_cuda(make_target, make_drafter, torch.bfloat16)
    lane = graphs.open_lane(SamplingParams(), "dflash")
    lane.extend(PROMPT)
    lane.first_token()
    told = []
    for _ in range(3):
        started_s = time.perf_counter()
        verified = lane.verify(lane.propose(15))
        step_s = time.perf_counter() - started_s
        lane.rewind(len(PROMPT))
        assert verified.propose_s is not None
        assert 0.0 < verified.propose_s <= step_s
        told.append(verified.startup_s)
    assert told[0] > 0.0
    assert told[1:] == [0.0, 0.0]
    assert graphs.startup_s >= told[0]
    assert lane.verify(lane.propose(0)).propose_s is None
