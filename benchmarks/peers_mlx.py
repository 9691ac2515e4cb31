"""The same pair and prompts in other people's MLX loops: `python -m benchmarks.peers_mlx`.

Ours through MLX, z-lab's `dflash.model_mlx` (dflash 0.1.0), dflash-mlx 0.1.8 and mlx-lm's own
`generate_step`, greedy, in one process. A reply is timed around the whole call, prefill included.
Exit code 1: ours is slower than one of them, or says something else.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.embedded import use_cores
from benchmarks.engine import decode, middle
from benchmarks.mlx_loops import DFLASH_MLX, MLX_LM, ZLAB, Loop, mlx_loops
from benchmarks.pairs import EMBEDDED, folders
from benchmarks.prompts import UNLIKE, Prompt, held_out_prompts
from benchmarks.report import Check, environment, format_table, write_results
from dflash_app.backends.mlx.loading import DTYPES
from dflash_app.drafters.tokenizer import load_tokenizer
from dflash_app.engine.prompt import encode_prompt
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.errors import DFlashAppError
from dflash_app.request import Message, Mode
from dflash_app.settings import load_settings
from dflash_app.workspace import open_workspace

OUR_DFLASH, OUR_AR = "ours, DFlash", "ours, AR"
BARS = ((OUR_DFLASH, ZLAB), (OUR_DFLASH, DFLASH_MLX), (OUR_AR, MLX_LM))
"""(ours, theirs): ours is at least as fast."""
NUM_WARM_UP = 2

Answer = Callable[[Prompt], list[int]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code is 1 where a bar is missed."""
    options = _parse(argv)
    use_cores(options.cores)
    results = measure(
        held_out_prompts(options.prompts),
        rounds=options.rounds,
        max_new_tokens=options.max_new_tokens,
        dtype=options.dtype,
    )
    checks = judge(results)
    print_results(results, checks)
    if options.out is not None:
        write_results(options.out, {**environment(), **results}, checks)
    return 0 if all(check.met for check in checks) else 1


def measure(
    prompts: Sequence[Prompt], *, rounds: int, max_new_tokens: int, dtype: str
) -> dict[str, Any]:
    """Every loop on every prompt with the shipped pair, in an order that rotates.

    Args:
        prompts: each asked alone.
        rounds: over all prompts.
        max_new_tokens: limit of a reply.
        dtype: what all loops compute in.
    """
    target_dir, drafter_dir = folders(None, None)
    with TemporaryDirectory() as home, closing(open_workspace(load_settings(Path(home)))) as opened:
        loaded = opened.loaded(EMBEDDED, LoadOptions(dtype=dtype), "mlx")
        device = loaded.device
        theirs, missing = mlx_loops(target_dir, drafter_dir, DTYPES[dtype])
        answers = {
            OUR_DFLASH: _ours(loaded, "dflash", max_new_tokens),
            OUR_AR: _ours(loaded, "ar", max_new_tokens),
            **_theirs(theirs, target_dir, max_new_tokens),
        }
        tok_s, different = _run(
            answers, prompts, rounds, prepare=lambda: decode(loaded, UNLIKE, "ar", 1)
        )
    return {
        "device": device,
        "dtype": dtype,
        "num_prompts": len(prompts),
        "num_runs_each": len(tok_s[OUR_AR]),
        "missing": missing,
        "loops": {name: _figures(name, tok_s) | different[name] for name in answers},
    }


def judge(results: Mapping[str, Any]) -> list[Check]:
    """Hold the figures of `measure` against the bars; a loop that is missing misses its bar.

    In float32 all loops must say the same; else near ties may fall either way, and ours only have
    to agree with each other nearly as often as mlx-lm's with itself: that is not judged here.
    """
    loops = results["loops"]
    checks = [
        Check(f"{ours} over {theirs}", loops.get(theirs, {}).get(_over(ours)), "at least", 1.0)
        for ours, theirs in BARS
    ]
    if results["dtype"] == "float32":
        differ = sum(loops[name]["num_different_outputs"] for name in (OUR_DFLASH, OUR_AR))
        checks.append(Check("replies of ours that are not mlx-lm's", differ, "below", 1))
    return checks


def print_results(results: Mapping[str, Any], checks: Sequence[Check]) -> None:
    """The table and the verdicts."""
    header = ("loop", "tok/s", "our DFlash over it", "our AR over it", "replies not mlx-lm's")
    print(format_table(header, [(name, *row.values()) for name, row in results["loops"].items()]))
    print(f"\n{results['num_runs_each']} runs of each, {results['dtype']} on {results['device']}")
    for name, reason in results["missing"].items():
        print(f"{name}: {reason}")
    print("\n".join(str(check) for check in checks))


def _ours(loaded: LoadedPair, mode: Mode, max_new_tokens: int) -> Answer:
    return lambda prompt: decode(loaded, prompt, mode, max_new_tokens)[1]


def _theirs(loops: Mapping[str, Loop], target_dir: Path, max_new_tokens: int) -> dict[str, Answer]:
    tokenizer = load_tokenizer(target_dir)

    def answer(loop: Loop) -> Answer:
        def run(prompt: Prompt) -> list[int]:
            return loop(encode_prompt(tokenizer, [Message("user", prompt.text)]), max_new_tokens)

        return run

    return {name: answer(loop) for name, loop in loops.items()}


def _run(
    answers: Mapping[str, Answer],
    prompts: Sequence[Prompt],
    rounds: int,
    prepare: Callable[[], object],
) -> tuple[dict[str, list[float]], dict[str, dict[str, int]]]:
    """End-to-end tok/s of every run, by loop, and how many replies are not mlx-lm's."""
    for prompt in prompts[:NUM_WARM_UP]:
        for answer in answers.values():
            answer(prompt)
    names, tok_s = list(answers), defaultdict(list)
    different = {name: {"num_different_outputs": 0} for name in names}
    for number in range(rounds):
        for position, prompt in enumerate(prompts):
            first = (number + position) % len(names)
            replies = {}
            for name in names[first:] + names[:first]:
                prepare()
                began_s = time.perf_counter()
                replies[name] = answers[name](prompt)
                tok_s[name].append(len(replies[name]) / (time.perf_counter() - began_s))
            for name, reply in replies.items():
                different[name]["num_different_outputs"] += reply != replies[MLX_LM]
    return tok_s, different


def _figures(name: str, tok_s: Mapping[str, list[float]]) -> dict[str, Any]:
    """Median tok/s of a loop, and the medians of our paired ratios to it."""
    figures: dict[str, Any] = {"median_tok_s": middle(tok_s[name])}
    for ours in (OUR_DFLASH, OUR_AR):
        pairs = zip(tok_s[ours], tok_s[name], strict=True)
        figures[_over(ours)] = middle(mine / other for mine, other in pairs)
    return figures


def _over(ours: str) -> str:
    return f"{ours} over it"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers_mlx", description=__doc__)
    parser.add_argument("--prompts", type=int, default=24, help="held-out prompts")
    parser.add_argument("--rounds", type=int, default=3, help="over these prompts")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="limit of a reply")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of all loops")
    parser.add_argument("--cores", type=int, default=2, help="that the process may use")
    parser.add_argument("--out", type=Path, help="file for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DFlashAppError as error:
        sys.exit(str(error))
