"""The parts of a path's steps: forwards alone, the profiler's shares, growth with the context."""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import cycle, islice
from statistics import median
from typing import Any

import torch

from benchmarks.lane_times import NUM_PROFILED, StepTimes, prefill, take_step, time_steps
from benchmarks.paths import LoadedPath
from benchmarks.time_shares import profile_steps
from dflash_app.request import Mode

CPU = torch.device("cpu")
NUM_PARTS = 200
GROWTH_LENGTHS = (64, 512, 1792)
NUM_GROWTH_STEPS = 20
NUM_PROFILES = 5
"""Of each sort: the quickest counts, as what disturbs a profile only makes it longer."""
_MODES: tuple[Mode, Mode] = ("ar", "dflash")


@torch.inference_mode()
def measure_parts(
    paths: dict[str, LoadedPath], prompt_ids: list[int]
) -> dict[str, dict[str, float]]:
    """Median seconds of each path's forwards alone, at the prompt's length, in turn."""
    calls = {name: _forwards(path, prompt_ids) for name, path in paths.items()}
    seconds: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in paths}
    for _ in range(NUM_PARTS // 10):
        for name, forwards in calls.items():
            for part, forward in forwards.items():
                forward()  # what ran before has the caches
                for _ in range(10):
                    began_s = time.perf_counter()
                    forward()
                    seconds[name][part].append(time.perf_counter() - began_s)
    return {
        name: {part: median(values) for part, values in parts.items()}
        for name, parts in seconds.items()
    }


def measure_shares(path: LoadedPath, prompt_ids: list[int]) -> dict[str, float]:
    """Share of each mode's step outside products and attention, by the profiler."""
    shares = {}
    for mode in _MODES:
        with closing(path.open_lane(mode)) as lane:
            prefill(lane, prompt_ids)
            drafts = _num_draft(path, mode)
            step = partial(take_step, lane, drafts)
            profiles = [profile_steps(step, NUM_PROFILED, CPU) for _ in range(NUM_PROFILES)]
        shares[f"share outside products, {mode}"] = min(profiles, key=sum).outside
    return shares


def measure_growth(path: LoadedPath, prompt_ids: list[int]) -> dict[str, dict[str, Any]]:
    """Each mode's steps after ever more tokens, in milliseconds, and the profiler's parts of them.

    Products have the same shapes at every length; but what attention reads drives their weights out
    of the processor's cache, so they are apart too.

    Args:
        path: whose steps go back to where they began.
        prompt_ids: repeated to every length.
    """
    table: dict[str, dict[str, Any]] = {}
    for mode in _MODES:
        lanes = {}
        for length in GROWTH_LENGTHS:
            lanes[length] = path.open_lane(mode)
            prefill(lanes[length], list(islice(cycle(prompt_ids), length)))
        times: dict[int, list[StepTimes]] = defaultdict(list)
        for _ in range(NUM_PROFILES):
            for length, lane in lanes.items():
                drafts = _num_draft(path, mode)
                times[length].append(time_steps(lane, drafts, NUM_GROWTH_STEPS, CPU, stays=True))
        contexts = {str(length): _apart(found) for length, found in times.items()}
        first, *_, last = contexts.values()
        growth = last["neither"] / first["neither"]
        table[mode] = {"contexts": contexts, "growth": growth}
        for lane in lanes.values():
            lane.close()
    return table


def _apart(times: list[StepTimes]) -> dict[str, float]:
    shares = [each.shares for each in times]
    return {
        "step": 1e3 * median(each.step_s for each in times),
        "attention": 1e3 * min(each.attention_s for each in shares),
        "products": 1e3 * min(each.products_s for each in shares),
        "neither": 1e3 * min(each.other_s for each in shares),
    }


def _num_draft(path: LoadedPath, mode: Mode) -> int:
    return int(path.drafter.config.block_size) - 1 if mode == "dflash" else 0


def _forwards(path: LoadedPath, prompt_ids: list[int]) -> dict[str, Callable[[], None]]:
    target, config = path.target, path.drafter.config
    taps, width = config.target_layer_ids, config.block_size
    lane = path.open_lane("dflash")
    prefill(lane, prompt_ids)
    block, cache = torch.tensor(prompt_ids[:1] * width), target.new_cache()
    target.forward(torch.tensor(prompt_ids), cache, 1)

    def one() -> None:
        target.forward(block[:1], cache, 1)
        cache.crop(-1)

    def verify() -> None:
        target.forward(block, cache, width, taps)
        cache.crop(-width)

    def draft() -> None:
        lane.propose(width - 1)

    return {"AR forward": one, "verify forward": verify, "draft": draft}
