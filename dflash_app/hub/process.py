"""Start the download process, read its events, stop it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

from dflash_app.hub.disk import cache_folder
from dflash_app.settings import PACKAGE_DIR


@dataclass(frozen=True, slots=True)
class Wanted:
    """A repository to download.

    Attributes:
        repo: its id.
        revision: commit, or None for what its main branch points to now.
        role: "target" or "drafter".
    """

    repo: str
    revision: str | None
    role: str


class Transfer:
    """One run of the download process.

    A process of its own, because only a process can be stopped at any moment; a fresh one, because
    huggingface_hub reads the environment when it is imported.
    """

    def __init__(self, wanted: Sequence[Wanted], cache_dir: Path | None = None) -> None:
        from huggingface_hub import constants

        request = {
            "models": [asdict(each) for each in wanted],
            "cache_dir": str(cache_folder(cache_dir)),
            "endpoint": constants.ENDPOINT,
        }
        paths = [str(PACKAGE_DIR.parent), os.environ.get("PYTHONPATH")]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dflash_app.hub.transfer"],  # -P: no code from the cwd
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join(path for path in paths if path),
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            },
        )
        self._stdin = cast(IO[str], self._process.stdin)
        self._stdout = cast(IO[str], self._process.stdout)
        try:  # left open: the process ends when we do
            self._stdin.write(json.dumps(request) + "\n")
            self._stdin.flush()
        except BrokenPipeError:  # it ended already; `events` will tell
            pass

    def events(self) -> Iterator[dict[str, Any]]:
        """What the process tells, until it ends; each has the key "event"."""
        for line in self._stdout:
            try:
                event = json.loads(line)
            except ValueError:  # a line that a kill cut
                continue
            yield event

    def stop(self) -> None:
        """End the process now; what it received is on disk."""
        self._process.kill()

    def close(self) -> int:
        """Wait for the end; the exit status."""
        status = self._process.wait()
        for pipe in (self._stdin, self._stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                continue
        return status
