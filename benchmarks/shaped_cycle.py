"""The decode cycle on random weights in a published shape: cycle time, not quality."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import torch

from benchmarks.bandwidth import read_bytes_s, wait
from benchmarks.forced import forced_acceptance
from benchmarks.lane_times import StepTimes, prefill, time_steps
from benchmarks.report import Check, device_names, environment, format_table, write_results
from benchmarks.shape_options import LABEL
from benchmarks.shapes import (
    RandomPair,
    build_pair,
    draft_bytes,
    draft_kv_bytes,
    kv_bytes,
    our_models,
    random_ids,
    target_bytes,
)
from dflash_app.backends.torch.loading import DTYPES, choose_device
from dflash_app.request import Mode, SamplingParams

BARS = {"AR step / floor": 1.25, "verify / floor": 1.35, "cycle / floor": 1.5}
"""At 1,024 tokens on an H200 in bfloat16, Qwen3-8B's shape."""
MAX_START_S = 10.0
MAX_GROWTH = 1.1
"""Of a step from the shortest context to the longest, the reading of their keys taken off."""


class Floors(NamedTuple):
    """Seconds that reading takes at least: weights, and keys and values at one length."""

    ar_s: float
    verify_s: float
    draft_s: float
    kv_s: float
    draft_kv_s: float


def run(options: argparse.Namespace) -> int:
    """`python -m benchmarks.cycle --shape`: measure, print, write; 1 where a bar is missed."""
    results = measure(options)
    checks = judge(results)
    print_results(results, checks)
    if options.out is not None:
        write_results(options.out, {**environment(), **results}, checks)
    return 0 if all(check.met for check in checks) else 1


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Steps at every context length, and the floors under them; times in milliseconds."""
    device = choose_device(options.device)
    bandwidth = read_bytes_s(device)
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    pair = build_pair(options.shape, device, DTYPES[options.dtype])
    num_draft, vocab_size = pair.drafter.config.block_size - 1, pair.model.config.vocab_size
    floors_at = _floors(pair, bandwidth)
    contexts: dict[str, dict[str, float]] = {}
    started_s: list[float] = []
    with forced_acceptance(options.accept):
        models = our_models(pair)
        for length in options.context:
            times: dict[Mode, StepTimes] = {}
            for mode, drafts in _modes(num_draft):
                began_s = time.perf_counter()
                with closing(models.open_lane(SamplingParams(), mode)) as lane:
                    prefill(lane, random_ids(vocab_size, length))
                    lane.verify(lane.propose(drafts))
                    lane.rewind(length + 1)
                    wait(device)
                    started_s.append(time.perf_counter() - began_s)
                    stays = models.rollback_kind == "crop"
                    times[mode] = time_steps(lane, drafts, options.steps, device, stays=stays)
            contexts[str(length)] = _figures(times, floors_at(length), options.accept, device)
    return {
        "label": LABEL,
        "shape": options.shape,
        "accept": options.accept,
        "device": device_names(device),
        "dtype": options.dtype,
        "path": models.path,
        "drafter_path": models.drafter_path,
        "bandwidth_bytes_s": bandwidth,
        "first_prompts_and_steps_s": started_s,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if on_cuda else None,
        "num_steps": options.steps,
        "contexts": contexts,
        "growth": _growth(contexts),
    }


def judge(results: Mapping[str, Any]) -> list[Check]:
    """The bars of an H200, which are Qwen3-8B's in bfloat16; for other shapes figures alone."""
    if (results["shape"], results["dtype"]) != ("qwen3-8b", "bfloat16"):
        return []
    shortest = next(iter(results["contexts"].values()))
    checks = [Check(name, shortest[name], "at most", limit) for name, limit in BARS.items()]
    checks += [
        Check(f"{name}, longest over shortest context", ratio, "below", MAX_GROWTH)
        for name, ratio in results["growth"].items()
    ]
    # The first prompt and step hold what the fast path captures; later ones do without.
    slowest = max(results["first_prompts_and_steps_s"])
    return [*checks, Check("start of the fast path, s", slowest, "below", MAX_START_S)]


def print_results(results: Mapping[str, Any], checks: Sequence[Check]) -> None:
    """A table, the context lengths side by side."""
    contexts = results["contexts"]
    print(f"{results['shape']}, {results['dtype']}, {results['device']}: {results['label']}")
    print(f"{results['accept']} accepted drafts a block; target: {results['path']}")
    print(f"{results['bandwidth_bytes_s'] / 1e9:,.0f} GB/s read; times in milliseconds")
    rows = [(key, *(each[key] for each in contexts.values())) for key in _first(contexts)]
    print(format_table(("context", *contexts), rows))
    for name, ratio in results["growth"].items():
        print(f"{name}, longest over shortest context: {ratio:.2f}")
    print("\n".join(str(check) for check in checks))


def _modes(num_draft: int) -> tuple[tuple[Mode, int], tuple[Mode, int]]:
    return ("ar", 0), ("dflash", num_draft)


def _floors(pair: RandomPair, bandwidth: float) -> Callable[[int], Floors]:
    # Before our path takes the weights over.
    width = pair.drafter.config.block_size
    ar_bytes, verify_bytes = (target_bytes(pair.model, count) for count in (1, width))
    drafter_bytes, config = draft_bytes(pair), pair.drafter.config
    kv_each, draft_kv_each = kv_bytes(pair.model), draft_kv_bytes(config, pair.model.dtype)

    def at(length: int) -> Floors:
        kv, draft_kv = kv_each * length, draft_kv_each(length)
        read = (ar_bytes + kv, verify_bytes + kv, drafter_bytes + draft_kv, kv, draft_kv)
        return Floors(*(each / bandwidth for each in read))

    return at


def _figures(
    times: Mapping[Mode, StepTimes], floors: Floors, accept: int, device: torch.device
) -> dict[str, float]:
    ar, dflash = times["ar"], times["dflash"]
    cycle_floor_s = floors.draft_s + floors.verify_s
    figures = {
        "AR step": 1e3 * ar.step_s,
        "AR step / floor": ar.step_s / floors.ar_s,
        "verify": 1e3 * dflash.verify_s,
        "verify / floor": dflash.verify_s / floors.verify_s,
        "draft": 1e3 * dflash.propose_s,
        "draft / floor": dflash.propose_s / floors.draft_s,
        "cycle": 1e3 * dflash.step_s,
        "cycle / floor": dflash.step_s / cycle_floor_s,
        "cycle / AR step": dflash.step_s / ar.step_s,
        "floor of an AR step": 1e3 * floors.ar_s,
        "floor of a cycle": 1e3 * cycle_floor_s,
        "keys in an AR step's floor": 1e3 * floors.kv_s,
        "keys in a cycle's floor": 1e3 * (floors.kv_s + floors.draft_kv_s),
        "share outside products, AR": ar.shares.outside,
        "share outside products, DFlash": dflash.shares.outside,
        "AR tok/s": 1.0 / ar.step_s,
        "DFlash tok/s at that acceptance": (1 + accept) / dflash.step_s,
    }
    if device.type == "cuda":
        figures["host gap of an AR step"] = 1e3 * (ar.step_s - ar.shares.busy_s)
        figures["host gap of a cycle"] = 1e3 * (dflash.step_s - dflash.shares.busy_s)
    return figures


def _growth(contexts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Steps at the last context over those at the first, what reading the keys takes apart."""
    first, last = _first(contexts), list(contexts.values())[-1]
    return {
        name: (last[name] - last[keys]) / (first[name] - first[keys])
        for name, keys in (
            ("AR step", "keys in an AR step's floor"),
            ("cycle", "keys in a cycle's floor"),
        )
    }


def _first(contexts: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
    return next(iter(contexts.values()))
