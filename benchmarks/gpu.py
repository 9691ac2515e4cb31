"""All of it on one GPU, within minutes: `python -m benchmarks.gpu --out DIR`.

Needs torch and transformers only; with z-lab's `dflash` on the path its loop is measured too. Each
measurement is a process of its own (`benchmarks.shaped`), so that one that breaks takes none with
it. DIR/gpu.json is written anew after each. Exit code 1: a bar is missed, or one is unmeasured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import shaped_cycle, shaped_peers

ROOT = Path(__file__).parent.parent
MINUTES = 9.0
CYCLE, PEERS = "cycle", "peers"
JOBS: tuple[tuple[str, str], ...] = (
    # In float32 every loop must say the same.
    (PEERS, "--shape tiny --dtype float32 --context 200 --tokens 64 --loop-rounds 1 --free"),
    (CYCLE, "--shape qwen3-8b --context 1024 8192"),
    (PEERS, "--shape qwen3-8b --context 1024"),
    (PEERS, "--shape qwen3-8b --context 1024 --tokens 48 --loop-rounds 1 --free"),
    (CYCLE, "--shape qwen3-4b --context 1024 8192"),
    (CYCLE, "--shape qwen3.5-4b --context 1024 8192 --steps 20"),
    (CYCLE, "--shape qwen3-coder-30b-a3b --context 1024 --steps 20"),
    (PEERS, "--shape qwen3-4b --context 1024"),
    (PEERS, "--shape qwen3.5-4b --context 1024 --loop-rounds 2"),
    (PEERS, "--shape qwen3-coder-30b-a3b --context 1024 --loop-rounds 2 --tokens 48"),
)
"""What matters most first: where the time is up, the rest is said to be unmeasured."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run every job that there is time for."""
    options = _parse(argv)
    ends_s = time.monotonic() + 60 * options.minutes
    jobs = [
        (measurement, [*arguments.split(), "--device", options.device])
        for measurement, arguments in JOBS
        if not options.only or any(f"--shape {name} " in arguments for name in options.only)
    ]
    found: list[dict[str, Any]] = []
    options.out.mkdir(parents=True, exist_ok=True)
    for measurement, arguments in jobs:
        print(f"\n== {measurement} {' '.join(arguments)}", flush=True)
        found.append(run_job(measurement, arguments, ends_s - time.monotonic()))
        _write(options.out / "gpu.json", found)
    met = [check["met"] for each in found for check in each.get("checks", ())]
    return 0 if all(met) and all("problem" not in each for each in found) else 1


def run_job(measurement: str, arguments: Sequence[str], limit_s: float) -> dict[str, Any]:
    """One measurement in a process of its own.

    Args:
        measurement: "cycle" or "peers".
        arguments: of `benchmarks.shaped`.
        limit_s: it is ended after so many seconds.

    Returns:
        What it wrote, or {"problem": why it wrote nothing}; and what was run, and for how long.
    """
    job: dict[str, Any] = {"command": f"{measurement} {' '.join(arguments)}"}
    if limit_s <= 0:
        print("unmeasured: the time is up")
        return {**job, "problem": "unmeasured: the time was up"}
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        command = [sys.executable, "-m", "benchmarks.shaped", measurement, *arguments]
        try:
            ended = subprocess.run(
                [*command, "--out", str(file)],
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
                timeout=limit_s,
                check=False,
            )
            problem = ended.stderr.strip()[-2000:]
        except subprocess.TimeoutExpired:
            problem = "unmeasured: it was not ready when the time was up"
        job["elapsed_s"] = round(time.monotonic() - began_s, 1)
        if file.is_file():
            return {**job, **json.loads(file.read_text(encoding="utf-8"))}
    print(problem)
    return {**job, "problem": problem}


def bars() -> list[str]:
    """What an H200 has to reach, in words; nothing here was measured."""
    lines = [f"{name}: at most {limit:g}" for name, limit in shaped_cycle.BARS.items()]
    lines += [
        f"step from context 1K to 8K, keys apart: below {shaped_cycle.MAX_GROWTH:g}",
        f"start of the fast path: below {shaped_cycle.MAX_START_S:g} s",
    ]
    return [
        *lines,
        *(f"{ours} over {theirs}: at least {least:g}" for ours, theirs, least in shaped_peers.BARS),
    ]


def _write(file: Path, found: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps({"measurements": found}, indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 (or cpu, with --only tiny)")
    parser.add_argument("--only", nargs="+", help="shapes, such as qwen3-8b")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of it")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
