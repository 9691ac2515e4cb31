"""The same pair and prompts in other people's loops: `python -m benchmarks.peers`.

Ours, z-lab's `dflash_generate` (dflash 0.1.0, the reference) and transformers' `generate` in its
three ways, greedy, float32, in one process with the same number of threads. A reply is timed around
the whole call, prefill included, because that is what every one of them offers. With `--shape` the
pair has random weights in a published shape (`benchmarks.shaped_peers`). Exit code 1: a bar is
missed.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import shaped_peers
from benchmarks.embedded import use_cores
from benchmarks.engine import decode, middle
from benchmarks.pairs import add_pair, folders, open_pair
from benchmarks.peer_loops import (
    GENERATE,
    NATIVE_DFLASH,
    PROMPT_LOOKUP,
    ZLAB_AR,
    ZLAB_DFLASH,
    Loop,
    peer_loops,
)
from benchmarks.prompts import UNLIKE, Prompt, held_out_prompts
from benchmarks.report import Check, environment, format_table, write_results
from benchmarks.shape_options import pair_parser
from dflash_app.engine.prompt import encode_prompt
from dflash_app.engine.protocol import LoadedPair
from dflash_app.errors import DFlashAppError
from dflash_app.metrics import RunMetrics
from dflash_app.request import Message

OUR_DFLASH, OUR_ADAPTIVE, OUR_AR = "ours, DFlash", "ours, DFlash, adaptive", "ours, AR"
NUM_WARM_UP = 2
BARS = (
    (OUR_DFLASH, ZLAB_DFLASH, 2.2),
    (OUR_DFLASH, NATIVE_DFLASH, 2.3),
    (OUR_AR, GENERATE, 1.7),
    (OUR_AR, ZLAB_AR, 1.7),
)
"""(ours, theirs, least ratio of tok/s): all drafters at the same fixed block."""

Answer = Callable[[Prompt], tuple[list[int], RunMetrics | None]]
"""A reply's tokens, and its figures where the loop is ours."""


@dataclass
class Runs:
    """What the loops did; every list is in the order of the rounds, so entries pair up.

    Attributes:
        tok_s: end to end, by loop.
        decode_tok_s: prefill apart, by our loop and by kind of prompt; None for a single token.
        different: replies that were not our AR's, by loop.
    """

    tok_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    decode_tok_s: dict[str, dict[str, list[float | None]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    different: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code is 1 where a bar is missed."""
    parser = pair_parser("benchmarks.peers", __doc__, prompts=24, max_new_tokens=512)
    options = parser.parse_args(argv)
    if options.shape is not None:
        return shaped_peers.run(options)
    use_cores(options.cores)
    results = measure(
        *folders(options.target, options.drafter),
        prompts=held_out_prompts(options.prompts),
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
    prompts: Sequence[Prompt],
    rounds: int,
    max_new_tokens: int,
    threads: int,
) -> dict[str, Any]:
    """Every loop on every prompt, in an order that rotates.

    Args:
        target_dir: folder of the target.
        drafter_dir: folder of the drafter.
        prompts: each asked alone.
        rounds: over all prompts.
        max_new_tokens: limit of a reply.
        threads: that every loop computes with.
    """
    with tempfile.TemporaryDirectory() as folder:
        add_pair(Path(folder), "measured", target_dir, drafter_dir)
        with open_pair(Path(folder), "measured", threads) as loaded:
            theirs, missing = _their_answers(target_dir, drafter_dir, threads, max_new_tokens)
            answers = {**_our_answers(loaded, max_new_tokens), **theirs}
            runs = _run(
                answers,
                prompts,
                rounds,
                prepare=lambda: decode(loaded, UNLIKE, mode="ar", max_new_tokens=1),
            )
    return {
        "threads": threads,
        "num_prompts": len(prompts),
        "num_runs_each": len(runs.tok_s[OUR_AR]),
        "missing": missing,
        "loops": _loop_figures(runs),
        "kinds": _kind_figures(runs),
        "num_different_outputs": sum(runs.different.values()),
    }


def judge(results: Mapping[str, Any]) -> list[Check]:
    """Hold the figures of `measure` against the bars; a loop that is missing misses its bar."""
    loops = results["loops"]
    checks = [
        Check(f"{ours} over {theirs}", loops.get(theirs, {}).get(_over(ours)), "at least", least)
        for ours, theirs, least in BARS
    ]
    return [*checks, Check("replies that differ", results["num_different_outputs"], "below", 1)]


def print_results(results: Mapping[str, Any], checks: Sequence[Check]) -> None:
    """Both tables and the verdicts."""
    header = ("loop", "tok/s", "our DFlash over it", "our adaptive", "our AR")
    rows = [(name, *list(row.values())[:4]) for name, row in results["loops"].items()]
    print(format_table(header, rows))
    print()
    kinds = ("kind of task", "AR tok/s", "DFlash over it", "adaptive over it")
    print(format_table(kinds, [(kind, *row.values()) for kind, row in results["kinds"].items()]))
    runs, threads = results["num_runs_each"], results["threads"]
    print(f"\n{runs} runs of each loop, {threads} thread(s); the second table without prefill")
    for name, reason in results["missing"].items():
        print(f"{name}: {reason}")
    print("\n".join(str(check) for check in checks))


def _our_answers(loaded: LoadedPair, max_new_tokens: int) -> dict[str, Answer]:
    def answer(prompt: Prompt, **ways: Any) -> tuple[list[int], RunMetrics | None]:
        metrics, token_ids = decode(loaded, prompt, max_new_tokens=max_new_tokens, **ways)
        return token_ids, metrics

    return {
        OUR_DFLASH: lambda prompt: answer(prompt, mode="dflash", policy="fixed"),
        OUR_ADAPTIVE: lambda prompt: answer(prompt, mode="dflash", policy="adaptive"),
        OUR_AR: lambda prompt: answer(prompt, mode="ar"),
    }


def _their_answers(
    target_dir: Path, drafter_dir: Path, threads: int, max_new_tokens: int
) -> tuple[dict[str, Answer], dict[str, str]]:
    import torch
    from transformers import AutoModelForCausalLM

    from dflash_app.backends.torch.checkpoint import load_drafter
    from dflash_app.drafters.tokenizer import load_tokenizer

    torch.set_num_threads(threads)  # this thread's: our engine has set its own
    library: Any = AutoModelForCausalLM
    model = library.from_pretrained(target_dir, dtype=torch.float32).eval()
    tokenizer = load_tokenizer(target_dir)
    stop_ids = model.generation_config.eos_token_id
    loops, missing = peer_loops(
        model,
        load_drafter(drafter_dir, torch.device("cpu"), torch.float32),
        [stop_ids] if isinstance(stop_ids, int) else stop_ids,
    )

    def answer(loop: Loop) -> Answer:
        def run(prompt: Prompt) -> tuple[list[int], None]:
            prompt_ids = encode_prompt(tokenizer, [Message("user", prompt.text)])
            return loop(prompt_ids, max_new_tokens), None

        return run

    order = (ZLAB_DFLASH, NATIVE_DFLASH, PROMPT_LOOKUP, ZLAB_AR, GENERATE)
    return {name: answer(loops[name]) for name in order if name in loops}, missing


def _run(
    answers: Mapping[str, Answer],
    prompts: Sequence[Prompt],
    rounds: int,
    *,
    prepare: Callable[[], object],
) -> Runs:
    for prompt in prompts[:NUM_WARM_UP]:
        for answer in answers.values():
            answer(prompt)
    runs, names = Runs(), list(answers)
    for number in range(rounds):
        for position, prompt in enumerate(prompts):
            first = (number + position) % len(names)
            replies = {}
            for name in names[first:] + names[:first]:
                prepare()
                began_s = time.perf_counter()
                replies[name], metrics = answers[name](prompt)
                runs.tok_s[name].append(len(replies[name]) / (time.perf_counter() - began_s))
                if metrics is not None:
                    runs.decode_tok_s[name][prompt.kind].append(metrics.decode_tok_s)
            for name, reply in replies.items():
                runs.different[name] += reply != replies[OUR_AR]
    return runs


def _loop_figures(runs: Runs) -> dict[str, dict[str, Any]]:
    """Median tok/s of each loop, and the medians of our paired ratios to it."""
    table: dict[str, dict[str, Any]] = {}
    for name in sorted(runs.tok_s, key=_place):
        theirs = runs.tok_s[name]
        table[name] = {"median_tok_s": middle(theirs)}
        for ours in (OUR_DFLASH, OUR_ADAPTIVE, OUR_AR):
            pairs = zip(runs.tok_s[ours], theirs, strict=True)
            table[name][_over(ours)] = middle(mine / other for mine, other in pairs)
        table[name]["num_different_outputs"] = runs.different[name]
    return table


def _kind_figures(runs: Runs) -> dict[str, dict[str, float | None]]:
    """Our decoding by kind of prompt: AR's tok/s, and the paired ratios to it."""
    kinds = sorted(runs.decode_tok_s[OUR_AR])
    pooled = {
        name: {**group, "all": [each for kind in kinds for each in group[kind]]}
        for name, group in runs.decode_tok_s.items()
    }

    def over_ar(name: str, kind: str) -> float | None:
        pairs = zip(pooled[name][kind], pooled[OUR_AR][kind], strict=True)
        return middle(fast / plain if fast and plain else None for fast, plain in pairs)

    return {
        kind: {
            "median_ar_tok_s": middle(pooled[OUR_AR][kind]),
            "dflash_over_ar": over_ar(OUR_DFLASH, kind),
            "adaptive_over_ar": over_ar(OUR_ADAPTIVE, kind),
        }
        for kind in (*kinds, "all")
    }


def _over(ours: str) -> str:
    return f"{ours} over it"


def _place(name: str) -> int:
    order = (
        *(OUR_DFLASH, OUR_ADAPTIVE, ZLAB_DFLASH, NATIVE_DFLASH),
        *(OUR_AR, ZLAB_AR, GENERATE, PROMPT_LOOKUP),
    )
    return order.index(name)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DFlashAppError as error:
        sys.exit(str(error))
