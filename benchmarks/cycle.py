"""Where a decode cycle's time goes: `python -m benchmarks.cycle`.

The embedded pair, greedy, float32, on held-out prompts: through transformers' modules and on the
fast path, in one process, each prompt on both right after each other, in an order that rotates. The
floor of a step is the longer of two times at the rates measured here: reading its weights, and
multiplying every token with them. With `--shape` the
pair has random weights in a published shape (`benchmarks.shaped_cycle`). Exit code 1: a bar is
missed.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks import shaped_cycle
from benchmarks.bandwidth import multiply_flop_s, read_bytes_s
from benchmarks.cycle_parts import measure_growth, measure_parts, measure_shares
from benchmarks.embedded import use_cores
from benchmarks.pairs import folders
from benchmarks.paths import FAST, MODULES, LoadedPath, load_paths
from benchmarks.prompts import held_out_prompts
from benchmarks.report import Check, environment, format_table, write_results
from benchmarks.shape_options import pair_parser
from dflash_app.drafters.tokenizer import load_tokenizer
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.prompt import encode_prompt
from dflash_app.engine.speculative import decode
from dflash_app.errors import DFlashAppError
from dflash_app.events import PrefillDone, StepDone
from dflash_app.request import Message, Mode

MODES: tuple[Mode, Mode] = ("ar", "dflash")
NUM_WARM_UP = 2
STUDY_AR = 1.78
"""Times transformers' AR: the study's own AR, of whose steps a cycle was to cost 1.75."""
MAX_CYCLE = 1.75 / STUDY_AR
"""Of an AR step on transformers' modules; see docs/adr/0017."""
MAX_GROWTH = 2.0
"""Of what a step does beside attention and products while the context gets 28 times as long, 64 to
1,792 tokens: what attention reads leaves colder caches to the rest, 1.1 to 1.4 was measured."""


class Rates(NamedTuple):
    """What this machine does in a second, at best."""

    bytes_s: float
    flop_s: float


@dataclass
class Steps:
    """Seconds of one path's steps in one mode, and what they gave."""

    whole_s: list[float] = field(default_factory=list)
    tok_s: list[float] = field(default_factory=list)
    num_tokens: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write where asked; the exit code is 1 where a bar is missed."""
    parser = pair_parser("benchmarks.cycle", __doc__, prompts=12, max_new_tokens=256)
    options = parser.parse_args(argv)
    if options.shape is not None:
        return shaped_cycle.run(options)
    use_cores(options.cores)
    results = measure(
        *folders(options.target, options.drafter),
        num_prompts=options.prompts,
        rounds=options.rounds,
        max_new_tokens=options.max_new_tokens,
        threads=options.threads,
    )
    checks = judge(results)
    print_results(results, checks)
    if options.out is not None:
        write_results(options.out, {**environment(), **results}, checks)
    return 0 if all(check.met for check in checks) else 1


def measure(
    target_dir: Path,
    drafter_dir: Path,
    *,
    num_prompts: int,
    rounds: int,
    max_new_tokens: int,
    threads: int,
) -> dict[str, Any]:
    """Figures of both paths, times in milliseconds, and the medians of their paired ratios.

    Args:
        target_dir: folder of the target.
        drafter_dir: folder of the drafter.
        num_prompts: held-out prompts beside the demonstration.
        rounds: over them.
        max_new_tokens: limit of a reply.
        threads: that both compute with.
    """
    torch.set_num_threads(threads)
    paths = load_paths(target_dir, drafter_dir)
    tokenizer = load_tokenizer(target_dir)
    ids = [
        encode_prompt(tokenizer, [Message("user", prompt.text)])
        for prompt in held_out_prompts(num_prompts)
    ]
    steps, num_different = _run(paths, ids, rounds, max_new_tokens)
    parts, rates = measure_parts(paths, ids[0]), _measure_rates()
    return {
        "threads": threads,
        "num_pairs": len(ids) * rounds,
        "num_different_outputs": num_different,
        "bandwidth_bytes_s": rates.bytes_s,
        "multiply_flop_s": rates.flop_s,
        "paths": {
            name: _figures(path, steps[name], parts[name], rates) | measure_shares(path, ids[0])
            for name, path in paths.items()
        },
        "ratios": {
            f"{mode} tok/s of the fast path over the modules'": _paired(
                steps[FAST][mode].tok_s, steps[MODULES][mode].tok_s
            )
            for mode in MODES
        },
        "growth": measure_growth(paths[FAST], ids[0]),
    }


def judge(results: Mapping[str, Any]) -> list[Check]:
    """Hold the fast path against the bars."""
    fast = results["paths"][FAST]
    modules_ar = results["paths"][MODULES]["AR step"]
    checks = [
        Check(
            "a whole cycle, in AR steps of the modules",
            fast["DFlash cycle"] / modules_ar,
            "at most",
            MAX_CYCLE,
        )
    ]
    checks += [
        Check(
            f"{mode} step without attention and products, growth",
            each["growth"],
            "below",
            MAX_GROWTH,
        )
        for mode, each in results["growth"].items()
    ]
    return [*checks, Check("outputs that differ", results["num_different_outputs"], "below", 1)]


def print_results(results: Mapping[str, Any], checks: Sequence[Check]) -> None:
    """Both tables and the verdicts."""
    table, threads = results["paths"], results["threads"]
    rates = (results["bandwidth_bytes_s"] / 1e9, results["multiply_flop_s"] / 1e9)
    print("{} thread(s), {:.1f} GB/s, {:.0f} GFLOP/s; in milliseconds:".format(threads, *rates))
    rows = [(key, *(table[name][key] for name in table)) for key in table[FAST]]
    print(format_table(("", *table), rows))
    for name, ratio in results["ratios"].items():
        print(f"{name}: {ratio:.2f} (median of {results['num_pairs']} pairs)")
    print("\nthe fast path's steps after so many tokens:")
    contexts = next(iter(results["growth"].values()))["contexts"]
    rows = [
        (f"{mode}, {key}", *(each[key] for each in growth["contexts"].values()))
        for mode, growth in results["growth"].items()
        for key in next(iter(contexts.values()))
    ]
    print(format_table(("", *contexts), rows))
    print("\n".join(str(check) for check in checks))


def _run(
    paths: dict[str, LoadedPath], ids: Sequence[list[int]], rounds: int, max_new_tokens: int
) -> tuple[dict[str, dict[Mode, Steps]], int]:
    """Every prompt on every path in every mode; and how many outputs are not the modules' AR."""
    runs: list[tuple[str, Mode]] = [(name, mode) for mode in MODES for name in paths]
    for prompt_ids in ids[:NUM_WARM_UP]:
        for name, mode in runs:
            _decode(paths[name], mode, prompt_ids, max_new_tokens, Steps())
    steps: dict[str, dict[Mode, Steps]] = {name: defaultdict(Steps) for name in paths}
    num_different = 0
    for number in range(rounds):
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
            ended_s = event.elapsed_s
    steps.tok_s.append((len(token_ids) - 1) / max(ended_s - prefill_s, 1e-9))
    lane.close()
    return token_ids


def _measure_rates() -> Rates:
    cpu = torch.device("cpu")
    return Rates(read_bytes_s(cpu), multiply_flop_s(cpu))


def _floor_s(num_bytes: int, num_products: int, rates: Rates) -> float:
    return max(num_bytes / rates.bytes_s, 2 * num_products / rates.flop_s)


def _figures(
    path: LoadedPath, steps: dict[Mode, Steps], parts: dict[str, float], rates: Rates
) -> dict[str, float]:
    ar_s, cycle_s = (median(steps[mode].whole_s) for mode in MODES)
    width = path.drafter.config.block_size
    verify_floor_s = _floor_s(path.target_bytes, width * path.target_weights, rates)
    draft_floor_s = _floor_s(path.draft_bytes, width * path.draft_weights, rates)
    ar_floor_s = _floor_s(path.target_bytes, path.target_weights, rates)
    cycle_floor_s = verify_floor_s + draft_floor_s
    dflash = steps["dflash"]
    return {
        "AR step": 1e3 * ar_s,
        "AR forward": 1e3 * parts["AR forward"],
        "host gap of an AR step": 1e3 * (ar_s - parts["AR forward"]),
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
        "DFlash over AR": _paired(dflash.tok_s, steps["ar"].tok_s),
    }


def _paired(mine: Sequence[float], others: Sequence[float]) -> float:
    return median(a / b for a, b in zip(mine, others, strict=True))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DFlashAppError as error:
        sys.exit(str(error))
