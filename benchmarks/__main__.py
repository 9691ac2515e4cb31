"""The figures of this machine: `make bench`, or `python -m benchmarks`.

Our loops beside other people's, then where a cycle's time goes, on the embedded pair. Exit code 1:
a bar is missed.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cycle, gpu, peers
from benchmarks.embedded import RESULTS, use_cores
from dflash_app.errors import DFlashAppError


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both, print both, write both."""
    options = _parse(argv)
    cores, began_s = use_cores(options.cores), time.monotonic()
    common = ["--threads", str(options.threads), "--rounds", str(options.rounds)]
    exit_code = 0
    for name, command in (("peers", peers.main), ("cycle", cycle.main)):
        print(f"== {name}", flush=True)
        out = options.out / f"{name}-{cores}core.json"
        exit_code |= command([*common, "--cores", str(cores), "--out", str(out)])
        print(f"written to {out}\n")
    print(f"{time.monotonic() - began_s:.0f} seconds in all")
    print("\nOn an H200, unmeasured here (`python -m benchmarks.gpu --out DIR`):")
    print("\n".join(gpu.bars()))
    return exit_code


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="over the prompts")
    parser.add_argument("--threads", type=int, default=1, help="that every loop computes with")
    parser.add_argument("--cores", type=int, default=2, help="that the process may use")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DFlashAppError as error:
        sys.exit(str(error))
