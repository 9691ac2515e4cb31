"""Whether a Space could install the requirements: pip resolves them for its Python and torch."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_TIMEOUT_S = 600


class CannotResolve(Exception):
    """What pip says, in one line."""


def resolve(requirements: Path, also: Sequence[str], python: str) -> dict[str, str]:
    """Ask the package index; nothing is installed, and only wheels count.

    Args:
        requirements: a requirements.txt.
        also: what the Space installs besides, as requirements.
        python: its version, as "3.12".

    Returns:
        Version by name of all that would be installed.

    Raises:
        CannotResolve: there is no such set, or nobody to ask.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed",
            "--disable-pip-version-check", "--no-input", "--only-binary=:all:",
            "--report", str(report), "--python-version", python, "--target", folder,
            "-r", str(requirements), *also,
        ]  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603 our own arguments
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise CannotResolve(f"pip found no answer within {_TIMEOUT_S} s") from error
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            told = said[0].removeprefix("ERROR: ") if said else done.stderr.strip()[-300:]
            raise CannotResolve(told or f"pip ended with status {done.returncode}")
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {each["metadata"]["name"].lower(): each["metadata"]["version"] for each in found}
