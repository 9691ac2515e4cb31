"""Show that no family pays for another: `python -m benchmarks.families`. Exit code 1: one does."""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.embedded import RESULTS, use_cores
from benchmarks.prefill import NUM_LAYERS, NUM_TOKENS, STATE_BYTES, measure_prefill
from benchmarks.report import Check, environment, format_table, write_results
from dflash_app.errors import DFlashAppError

BEFORE = "1977de2"
"""The last commit that knew Qwen3 and Llama only."""

MAX_STEP_RATIO = 1.05
MAX_PART_OF_VERIFY = 0.10
MAX_STATES_PER_TAP = 2.1
"""A tapped layer's states of a forward are held once, and again where all taps are joined."""

ENGINE_CHUNK = 512
ROOT = Path(__file__).parent.parent
MODES = ("ar", "dflash")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write.

    Returns:
        The exit code: 1 where a target is missed.
    """
    options = _parse(argv)
    num_cores = use_cores(options.cores)
    results: dict[str, Any] = {
        "settings": {
            "dtype": "float32",
            "threads": 1,
            "cores": num_cores,
            "before": options.before,
            "load_average_before": os.getloadavg()[0],
        },
        **environment(),
    }
    checks = _measure_steps(options, results)
    checks += _measure_rollbacks(options, results)
    checks += _measure_prefills(results)
    print()
    print("\n".join(str(check) for check in checks))
    out = options.out or RESULTS / f"families-{num_cores}core.json"
    write_results(out, results, checks)
    print(f"\nwritten to {out}")
    return 0 if all(check.met for check in checks) else 1


def _measure_steps(options: argparse.Namespace, results: dict[str, Any]) -> list[Check]:
    """The shipped Qwen3 pair, now and before, in turn."""
    print(f"Qwen3's step, now and at {options.before}: {options.rounds} rounds", flush=True)
    with checkout(options.before) as before, open_stepper(before) as old, open_stepper(ROOT) as new:
        rounds = [_round(old, new, number) for number in range(1 + options.rounds)][1:]
    figures = summarize_rounds(rounds)
    results["qwen3_step"] = figures
    rows = [(mode, *(each for each in figures[mode].values())) for mode in MODES]
    print(format_table(("mode", "now ms", "before ms", "ratio", "lower", "upper"), rows))
    return [
        Check(f"Qwen3's {mode} step, now over before", figures[mode]["ratio"], "below",
              MAX_STEP_RATIO)
        for mode in MODES
    ]  # fmt: skip


def summarize_rounds(rounds: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Fold rounds into figures by mode: medians, the median ratio, and its quartiles.

    Args:
        rounds: each {"now": {mode: seconds}, "before": {mode: seconds}}, at least two.
    """
    figures = {}
    for mode in MODES:
        now_s, before_s = ([each[side][mode] for each in rounds] for side in ("now", "before"))
        ratios = sorted(now / before for now, before in zip(now_s, before_s, strict=True))
        quarter = len(ratios) // 4
        figures[mode] = {
            "now_ms": 1000 * median(now_s),
            "before_ms": 1000 * median(before_s),
            "ratio": median(ratios),
            "lower_quartile": ratios[quarter],
            "upper_quartile": ratios[-1 - quarter],
        }
    return figures


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The package as it was at a commit, in a folder that goes away.

    Raises:
        DFlashAppError: this is no clone, or it does not hold the commit.
    """
    try:
        archive = subprocess.run(
            ["git", "archive", commit, "dflash_app"], cwd=ROOT, capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise DFlashAppError(
            f"The commit {commit} cannot be read here: run this in a whole clone (`git fetch "
            "--unshallow`)."
        ) from error
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
        yield Path(folder)


@contextmanager
def open_stepper(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """`steps.py` on the package in a folder, ready for a line."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "steps.py")],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.communicate()


def _round(
    old: subprocess.Popen[str], new: subprocess.Popen[str], number: int
) -> dict[str, dict[str, Any]]:
    """Both sides once, one right after the other, the order alternating."""
    sides = {"before": old, "now": new}
    order = list(sides) if number % 2 == 0 else list(sides)[::-1]
    return {side: ask_steps(sides[side]) for side in order}


def ask_steps(process: subprocess.Popen[str]) -> dict[str, Any]:
    """One answer of `steps.py`."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def _measure_rollbacks(options: argparse.Namespace, results: dict[str, Any]) -> list[Check]:
    """One published layer after the other: the larger needs 1.5 GB."""
    import torch

    from benchmarks.rollback import SHAPES, measure_rollback

    torch.set_num_threads(1)
    print(f"\nGatedDeltaNet going back in a block of 16: {options.repeats} times", flush=True)
    figures = {
        name: measure_rollback(shape, repeats=options.repeats) for name, shape in SHAPES.items()
    }
    results["rollback"] = figures
    rows = [
        (name, 1000 * each["verify_s"], 1000 * each["rewind_s"], 100 * each["part_of_verify"])
        for name, each in figures.items()
    ]
    print(format_table(("layer of", "verify ms", "go back ms", "%"), rows))
    return [
        Check(f"going back over verifying, a layer of {name}", each["part_of_verify"], "below",
              MAX_PART_OF_VERIFY)
        for name, each in figures.items()
    ]  # fmt: skip


def _measure_prefills(results: dict[str, Any]) -> list[Check]:
    """Peaks of a prefill with no layer tapped, three, and all."""
    print(f"\npeak memory of a prefill of {NUM_TOKENS} tokens, {NUM_LAYERS} layers", flush=True)
    found = [
        measure_prefill(num_taps, chunk)
        for chunk in (NUM_TOKENS, ENGINE_CHUNK)
        for num_taps in (0, 3, NUM_LAYERS)
    ]
    results["prefill"] = {"state_bytes": STATE_BYTES, "peaks": found}
    rows = []
    checks = []
    for each in found:
        plain = next(one for one in found if one["chunk"] == each["chunk"])
        states = states_per_tap(plain["peak_bytes"], each["peak_bytes"], each["taps"])
        peak = each["peak_bytes"]
        rows.append((each["chunk"], each["taps"], peak and peak / 1e6, states))
        if each["taps"]:
            name = f"states held for each of {each['taps']} tapped layers, {each['chunk']} at once"
            limit = MAX_STATES_PER_TAP * each["chunk"] / NUM_TOKENS
            checks.append(Check(name, states, "below", limit))
    print(format_table(("tokens at once", "tapped", "peak MB", "states a tap"), rows))
    return checks


def states_per_tap(plain: int | None, tapped: int | None, num_taps: int) -> float | None:
    """What a tapped layer adds to the peak, in whole prompts of one layer's states."""
    if plain is None or tapped is None or not num_taps:
        return None
    return (tapped - plain) / num_taps / STATE_BYTES


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("--before", default=BEFORE, help="commit that Qwen3 is compared with")
    parser.add_argument("--rounds", type=int, default=40, help="of Qwen3's steps, now and before")
    parser.add_argument("--repeats", type=int, default=25, help="blocks of a GatedDeltaNet layer")
    parser.add_argument("--cores", type=int, default=2, help="that everything may use")
    parser.add_argument("--out", type=Path, help="file for the results")
    options = parser.parse_args(argv)
    for name in ("rounds", "repeats", "cores"):
        if getattr(options, name) < 2 - (name == "cores"):
            parser.error(f"--{name} is too small")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DFlashAppError as error:
        sys.exit(str(error))
