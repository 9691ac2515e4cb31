"""Where a decode cycle's time goes: `python -m benchmarks.cycle`.

The embedded pair, greedy, on held-out prompts: through transformers' modules and on the fast path,
in one process, each prompt on both right after each other, in an order that rotates. The floor of a
step is the weights it reads over the memory bandwidth measured here.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.embedded import use_cores
from benchmarks.pairs import folders
from benchmarks.paths import FAST, MODULES, LoadedPath, load_paths
from benchmarks.prompts import held_out_prompts
from benchmarks.report import environment, format_table, write_results
from dflash_app.backends.torch.loading import load_tokenizer
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.prompt import encode_prompt
from dflash_app.engine.speculative import decode
from dflash_app.events import PrefillDone, StepDone
from dflash_app.request import Message, Mode

MODES: tuple[Mode, Mode] = ("ar", "dflash")
NUM_WARM_UP = 2
NUM_PARTS = 200
NUM_PROFILED = 8
PRODUCTS = ("mm", "linear", "scaled_dot_product", "flash_attention", "bmm")
"""In the names of operators that multiply matrices or attend."""


@dataclass
class Steps:
    """Seconds of one path's steps in one mode, and what they gave."""

    whole_s: list[float] = field(default_factory=list)
    propose_s: list[float] = field(default_factory=list)
    tok_s: list[float] = field(default_factory=list)
    num_tokens: int = 0


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write where asked."""
    options = _parse(argv)
    use_cores(options.cores)
    torch.set_num_threads(options.threads)
    results = measure(
        *folders(options.target, options.drafter),
        num_prompts=options.prompts,
        repeats=options.repeats,
        max_new_tokens=options.max_new_tokens,
    )
    table, ratios = results["paths"], results["ratios"]
    bandwidth = results["bandwidth_bytes_s"] / 1e9
    print(f"{options.threads} thread(s), {bandwidth:.1f} GB/s read; times in milliseconds:")
    rows = [(key, *(table[name][key] for name in table)) for key in table[FAST]]
    print(format_table(("", *table), rows))
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} (median of {results['num_pairs']} pairs)")
    print(f"outputs that differ: {results['num_different_outputs']}")
    if options.out is not None:
        write_results(options.out, {**environment(), "threads": options.threads, **results}, [])


def measure(
    target_dir: Path, drafter_dir: Path, *, num_prompts: int, repeats: int, max_new_tokens: int
) -> dict[str, Any]:
    """Figures of both paths, times in milliseconds, and the medians of their paired ratios.

    Args:
        target_dir: folder of the target.
        drafter_dir: folder of the drafter.
        num_prompts: held-out prompts beside the demonstration.
        repeats: rounds over them.
        max_new_tokens: limit of a reply.
    """
    paths = load_paths(target_dir, drafter_dir)
    tokenizer = load_tokenizer(target_dir)
    ids = [
        encode_prompt(tokenizer, [Message("user", prompt.text)])
        for prompt in held_out_prompts(num_prompts)
    ]
    steps, num_different = _run(paths, ids, repeats, max_new_tokens)
    parts, bandwidth = _parts(paths, ids[0]), _bandwidth_bytes_s()
    table = {
        name: _figures(path, steps[name], parts[name], bandwidth) | _outside(path, ids[0])
        for name, path in paths.items()
    }
    ratios = {}
    for mode in MODES:
        pairs = zip(steps[FAST][mode].tok_s, steps[MODULES][mode].tok_s, strict=True)
        ratio = median(mine / theirs for mine, theirs in pairs)
        ratios[f"{mode} tok/s of the fast path over the modules'"] = ratio
    return {
        "num_pairs": len(ids) * repeats,
        "num_different_outputs": num_different,
        "bandwidth_bytes_s": bandwidth,
        "paths": table,
        "ratios": ratios,
    }


def _run(
    paths: dict[str, LoadedPath], ids: Sequence[list[int]], repeats: int, max_new_tokens: int
) -> tuple[dict[str, dict[Mode, Steps]], int]:
    """Every prompt on every path in every mode; and how many outputs are not the modules' AR."""
    runs: list[tuple[str, Mode]] = [(name, mode) for mode in MODES for name in paths]
    for prompt_ids in ids[:NUM_WARM_UP]:
        for name, mode in runs:
            _decode(paths[name], mode, prompt_ids, max_new_tokens, Steps())
    steps: dict[str, dict[Mode, Steps]] = {name: defaultdict(Steps) for name in paths}
    num_different = 0
    for number in range(repeats):
        for position, prompt_ids in enumerate(ids):
            first = (number + position) % len(runs)
            outputs = {
                (name, mode): _decode(
                    paths[name], mode, prompt_ids, max_new_tokens, steps[name][mode]
                )
                for name, mode in runs[first:] + runs[:first]
            }
            num_different += sum(each != outputs[MODULES, "ar"] for each in outputs.values())
    return steps, num_different


def _decode(
    path: LoadedPath, mode: Mode, prompt_ids: list[int], max_new_tokens: int, steps: Steps
) -> list[int]:
    """One reply's tokens; its steps are added to `steps`."""
    lane = path.open_lane(mode)
    began_s = time.perf_counter()
    token_ids: list[int] = []
    ended_s = prefill_s = 0.0
    num_draft = path.drafter.config.block_size - 1 if mode == "dflash" else 0
    for event in decode(
        lane,
        prompt_ids,
        policy=FixedDrafts(num_draft),
        max_new_tokens=max_new_tokens,
        eos_ids=path.target.eos_ids(),
        context_length=path.target.context_length,
        clock=lambda: time.perf_counter() - began_s,
        cancelled=lambda: False,
    ):
        if isinstance(event, PrefillDone):
            token_ids.append(event.token_id)
            ended_s = prefill_s = event.elapsed_s
        elif isinstance(event, StepDone):
            token_ids += event.token_ids
            steps.num_tokens += len(event.token_ids)
            steps.whole_s.append(event.elapsed_s - ended_s)
            steps.propose_s.append(event.propose_s)
            ended_s = event.elapsed_s
    steps.tok_s.append((len(token_ids) - 1) / max(ended_s - prefill_s, 1e-9))
    lane.close()
    return token_ids


@torch.inference_mode()
def _parts(paths: dict[str, LoadedPath], prompt_ids: list[int]) -> dict[str, dict[str, float]]:
    """Median seconds of each path's forwards alone, at the prompt's length."""
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


def _forwards(path: LoadedPath, prompt_ids: list[int]) -> dict[str, Callable[[], None]]:
    target, drafter = path.target, path.drafter
    taps, width = drafter.config.target_layer_ids, drafter.config.block_size
    lane = path.open_lane("dflash")
    lane.extend(prompt_ids)
    lane.first_token()
    block = torch.tensor(prompt_ids[:1] * width)
    cache = lane._prefix.cache

    def one() -> None:
        target.forward(block[:1], cache, 1)
        cache.crop(-1)

    def verify() -> None:
        target.forward(block, cache, width, taps)
        cache.crop(-width)

    def draft() -> None:
        lane.propose(width - 1)

    return {"AR forward": one, "verify forward": verify, "draft": draft}


def _figures(
    path: LoadedPath, steps: dict[Mode, Steps], parts: dict[str, float], bandwidth: float
) -> dict[str, float]:
    ar_s, cycle_s = (median(steps[mode].whole_s) for mode in MODES)
    ar_floor_s = path.target_bytes / bandwidth
    cycle_floor_s = (path.target_bytes + path.draft_bytes) / bandwidth
    dflash = steps["dflash"]
    return {
        "AR step": 1e3 * ar_s,
        "AR forward": 1e3 * parts["AR forward"],
        "DFlash cycle": 1e3 * cycle_s,
        "draft": 1e3 * parts["draft"],
        "verify forward": 1e3 * parts["verify forward"],
        "host gap of a cycle": 1e3 * (cycle_s - parts["draft"] - parts["verify forward"]),
        "floor of an AR step": 1e3 * ar_floor_s,
        "floor of a cycle": 1e3 * cycle_floor_s,
        "AR step / floor": ar_s / ar_floor_s,
        "cycle / floor": cycle_s / cycle_floor_s,
        "cycle / AR step": cycle_s / ar_s,
        "tokens a cycle": dflash.num_tokens / len(dflash.whole_s),
        "AR tok/s": median(steps["ar"].tok_s),
        "DFlash tok/s": median(dflash.tok_s),
        "DFlash over AR": median(
            fast / plain for fast, plain in zip(dflash.tok_s, steps["ar"].tok_s, strict=True)
        ),
    }


def _outside(path: LoadedPath, prompt_ids: list[int]) -> dict[str, float]:
    """Share of a step outside products and attention; the profiler makes small operators longer."""
    shares = {}
    for mode in MODES:
        lane = path.open_lane(mode)
        lane.extend(prompt_ids)
        lane.first_token()
        num_draft = path.drafter.config.block_size - 1 if mode == "dflash" else 0
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            for _ in range(NUM_PROFILED):
                length = lane.length
                verified = lane.verify(lane.propose(num_draft))
                lane.rewind(length + 1 + verified.num_accepted)
        inside = outside = 0.0
        for row in profiled.key_averages():
            if any(name in row.key for name in PRODUCTS):
                inside += row.self_cpu_time_total
            else:
                outside += row.self_cpu_time_total
        shares[f"share outside products, {mode}"] = outside / (inside + outside)
    return shares


def _bandwidth_bytes_s() -> float:
    """The best of several reads of memory that no cache holds."""
    numbers = torch.zeros(64 << 20)
    best_s = float("inf")
    for _ in range(10):
        began_s = time.perf_counter()
        numbers.sum()
        best_s = min(best_s, time.perf_counter() - began_s)
    return numbers.nbytes / best_s


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cycle", description=__doc__)
    parser.add_argument("--target", type=Path, help="measure this target, not the shipped one")
    parser.add_argument("--drafter", type=Path, help="and this drafter")
    parser.add_argument("--prompts", type=int, default=12, help="held-out prompts")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over them")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="limit of a reply")
    parser.add_argument("--threads", type=int, default=1, help="compute threads")
    parser.add_argument("--cores", type=int, default=2, help="that the process may use")
    parser.add_argument("--out", type=Path, help="file for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
