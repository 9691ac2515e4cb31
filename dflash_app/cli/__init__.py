"""The command line `dflash-app`."""

import sys
from collections.abc import Sequence

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells report a command that Ctrl-C ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `dflash-app`; an error is one sentence on stderr.

    Args:
        arguments: without the program's name; None takes the process's own.

    Returns:
        The exit status: 0, 1 for an error, 2 for wrong usage, 130 after Ctrl-C.
    """
    try:
        from dflash_app.cli.app import run_app  # here, so that Ctrl-C is quiet from the start

        status = run_app(arguments)
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    if status == EXIT_INTERRUPTED:  # typer, too, turns Ctrl-C into this status
        print("Cancelled.", file=sys.stderr)
    return status
