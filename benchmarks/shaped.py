"""One measurement of random weights: `python -m benchmarks.shaped cycle --shape qwen3-8b`.

What `benchmarks.cycle` and `benchmarks.peers` do with `--shape`, on a machine that has nothing but
torch and transformers. Exit code 1: a bar is missed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import shaped_cycle, shaped_peers
from benchmarks.shape_options import add_shape_options
from dflash_app.errors import DFlashAppError

MEASUREMENTS = {"cycle": shaped_cycle.run, "peers": shaped_peers.run}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shaped", description=__doc__)
    parser.add_argument("measurement", choices=MEASUREMENTS)
    add_shape_options(parser)
    parser.add_argument("--out", type=Path, help="file for the results")
    options = parser.parse_args(argv)
    if options.shape is None:
        parser.error("give --shape")
    return MEASUREMENTS[options.measurement](options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DFlashAppError as error:
        sys.exit(str(error))
