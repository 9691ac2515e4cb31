"""Do all surfaces show the same tok/s? `python -m benchmarks.agreement`. Exit code 1: they do not.

The same prompts, one after the other and in an order that rotates: as the benchmarks decode them,
as the chat does, in a race, and by `dflash-app generate` in a process of its own, with the same
number of threads. The order of the modes, and so of the race's lanes, alternates. Each figure is
the surface's own `decode_tok_s`, taken on the decoding thread, and the race's speedup is held
against that of runs one after the other.
Replies do not end before their limit: what a short one gives away to its first step is no speed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.embedded import use_cores
from benchmarks.engine import MODES, decode, middle
from benchmarks.pairs import add_pair, copy_endless, folders
from benchmarks.prompts import Prompt, talkative_prompts
from benchmarks.report import Check, environment, format_table, write_results
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.errors import DFlashAppError
from dflash_app.events import DecodeEvent
from dflash_app.metrics import summarize
from dflash_app.race import RaceLane, warm_up
from dflash_app.request import GenerationRequest, Message, Mode
from dflash_app.settings import load_settings
from dflash_app.workspace import Workspace, open_workspace

ROOT = Path(__file__).parent.parent
PAIR = "endless"
BENCHMARK, RACE = "benchmark", "race"
MAX_DIFFERENCE = 0.10
NUM_WARM_UP = 2

SPEEDUP = "speedup"

Speeds = dict[Mode, float | None]
"""decode_tok_s by mode."""
Surface = Callable[[Prompt, Sequence[Mode]], Speeds]
"""Asks a prompt in each mode, in that order."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit code is 1 where a surface differs by more than 10 %."""
    options = _parse(argv)
    use_cores(options.cores)
    target, drafter = folders(options.target, options.drafter)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        endless = copy_endless(target, home / "endless", options.silent)
        add_pair(home, PAIR, endless, drafter)
        results = measure(
            home,
            talkative_prompts(options.prompts),
            rounds=options.rounds,
            max_new_tokens=options.max_new_tokens,
            threads=options.threads,
        )
    checks = judge(results)
    header = ["surface"]
    for mode in MODES:
        header += [f"{mode}, tok/s", "/ benchmark"]
    rows = [
        (name, *(cell for figures in row.values() for cell in figures.values()))
        for name, row in results["surfaces"].items()
    ]
    print(format_table([*header, SPEEDUP, "/ benchmark"], rows))
    print("\n".join(str(check) for check in checks))
    if options.out is not None:
        write_results(options.out, {**environment(), **results}, checks)
    return 0 if all(check.met for check in checks) else 1


def measure(
    home: Path, prompts: Sequence[Prompt], *, rounds: int, max_new_tokens: int, threads: int
) -> dict[str, Any]:
    """Every prompt on every surface, in both modes.

    Args:
        home: of the app; its registry names the pair `PAIR`.
        prompts: each asked alone, greedily.
        rounds: over them.
        max_new_tokens: limit of a reply.
        threads: that every surface computes with.
    """
    options = LoadOptions(device="cpu", dtype="float32", num_threads=threads)
    found: dict[str, dict[str, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    with closing(open_workspace(load_settings(home))) as workspace:
        loaded = workspace.loaded(PAIR, options)
        surfaces: dict[str, Surface] = {
            BENCHMARK: lambda prompt, modes: {
                mode: decode(loaded, prompt, mode, max_new_tokens)[0].decode_tok_s for mode in modes
            },
            "chat": lambda prompt, modes: _chat(workspace, loaded, prompt, modes, max_new_tokens),
            RACE: lambda prompt, modes: _race(workspace, loaded, prompt, modes, max_new_tokens),
            "command line": lambda prompt, modes: {
                mode: _command(home, prompt, mode, max_new_tokens, threads) for mode in modes
            },
        }
        for prompt in prompts[:NUM_WARM_UP]:
            surfaces[BENCHMARK](prompt, MODES)
        names = list(surfaces)
        for number in range(rounds):
            for position, prompt in enumerate(prompts):
                first = (number + position) % len(names)
                modes = MODES if (number + position) % 2 == 0 else MODES[::-1]
                for name in names[first:] + names[:first]:
                    speeds = surfaces[name](prompt, modes)
                    for mode in MODES:
                        found[name][mode].append(speeds[mode])
                    found[name][SPEEDUP].append(_ratio(speeds["dflash"], speeds["ar"]))
    return {
        "threads": threads,
        "num_prompts": len(prompts),
        "num_runs_each": rounds * len(prompts),
        "max_new_tokens": max_new_tokens,
        "surfaces": {
            name: {
                **{mode: _against(found[name][mode], found[BENCHMARK][mode]) for mode in MODES},
                SPEEDUP: _against(found[name][SPEEDUP], found[BENCHMARK][SPEEDUP], "median"),
            }
            for name in names
        },
    }


def judge(results: Mapping[str, Any]) -> list[Check]:
    """How far each surface's median paired ratio is from 1; of speedups, the race's."""
    checks = []
    for name, row in results["surfaces"].items():
        for what, figures in row.items():
            if name != BENCHMARK and (what != SPEEDUP or name == RACE):
                ratio = figures["of_benchmark"]
                away = None if ratio is None else abs(ratio - 1.0)
                checks.append(
                    Check(f"{name}, {what}: off the benchmark by", away, "at most", MAX_DIFFERENCE)
                )
    return checks


def _against(
    mine: Sequence[float | None], benchmark: Sequence[float | None], name: str = "median_tok_s"
) -> dict[str, float | None]:
    pairs = zip(mine, benchmark, strict=True)
    return {name: middle(mine), "of_benchmark": middle(_ratio(a, b) for a, b in pairs)}


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _chat(
    workspace: Workspace,
    loaded: LoadedPair,
    prompt: Prompt,
    modes: Sequence[Mode],
    max_new_tokens: int,
) -> Speeds:
    return {
        mode: summarize(
            list(workspace.run(loaded, _request(prompt, mode, max_new_tokens), source="chat"))
        ).decode_tok_s
        for mode in modes
    }


def _race(
    workspace: Workspace,
    loaded: LoadedPair,
    prompt: Prompt,
    modes: Sequence[Mode],
    max_new_tokens: int,
) -> Speeds:
    requests = [_request(prompt, mode, max_new_tokens) for mode in modes]
    warm_up([RaceLane(loaded, request) for request in requests])
    events: dict[int, list[DecodeEvent]] = defaultdict(list)
    for lane, event in workspace.race(loaded, requests):
        events[lane].append(event)
    return {mode: summarize(events[lane]).decode_tok_s for lane, mode in enumerate(modes)}


def _command(
    home: Path, prompt: Prompt, mode: Mode, max_new_tokens: int, threads: int
) -> float | None:
    """One process for one reply, as a user starts it."""
    command = [
        *(sys.executable, "-m", "dflash_app", "generate", prompt.text, "--json"),
        *("--pair", PAIR, "--mode", mode, "--max-new-tokens", str(max_new_tokens)),
        *("--threads", str(threads), "--device", "cpu", "--dtype", "float32"),
    ]
    environ = os.environ | {"DFLASH_APP_HOME": str(home)}
    answer = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        raise DFlashAppError(f"`dflash-app generate` failed: {answer.stderr.strip()}")
    speed: float | None = json.loads(answer.stdout)["runs"][0]["metrics"]["decode_tok_s"]
    return speed


def _request(prompt: Prompt, mode: Mode, max_new_tokens: int) -> GenerationRequest:
    return GenerationRequest((Message("user", prompt.text),), max_new_tokens, mode=mode)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--target", type=Path, help="measure this target, not the shipped one")
    parser.add_argument("--drafter", type=Path, help="and this drafter")
    parser.add_argument("--silent", default="<|mask|>", help="a token that the target never says")
    parser.add_argument("--prompts", type=int, default=4, help="held-out prompts")
    parser.add_argument("--rounds", type=int, default=3, help="over these prompts")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="of every reply")
    parser.add_argument("--threads", type=int, default=1, help="that every surface computes with")
    parser.add_argument("--cores", type=int, default=2, help="that all of it may use")
    parser.add_argument("--out", type=Path, help="file for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DFlashAppError as error:
        sys.exit(str(error))
