"""Keeps a server for as long as the app that asked for it; run as a script, with nothing of ours.

The first line of its input is the request. The server gets a process group of its own, as engines
start processes of their own, and no shell. When the input ends, because the app stops the server or
ends itself in whatever way, the whole group ends.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

GRACE_S = 10.0
"""For the server to end by itself."""
EXIT_NOT_STARTED = 127


def main() -> int:
    """Run the server until it or the input ends; the server's exit status."""
    request = json.loads(sys.stdin.readline())
    with Path(request["log"]).open("wb") as log:
        try:
            server = subprocess.Popen(  # noqa: S603 - the app's own plan, without a shell
                request["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | request["environment"],
                start_new_session=True,
            )
        except OSError as error:
            log.write(f"{request['argv'][0]} cannot be started: {error.strerror}\n".encode())
            return EXIT_NOT_STARTED
    threading.Thread(target=_wait_for_the_end, args=(server,), daemon=True).start()
    status = server.wait()
    _end_group(server.pid, signal.SIGKILL)  # what a server that died left behind
    return status if status >= 0 else 128 - status


def _wait_for_the_end(server: "subprocess.Popen[bytes]") -> None:
    sys.stdin.read()
    _end_group(server.pid, signal.SIGTERM)
    try:
        server.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _end_group(server.pid, signal.SIGKILL)


def _end_group(group: int, sign: signal.Signals) -> None:
    try:
        os.killpg(group, sign)
    except (ProcessLookupError, PermissionError):  # it is gone; macOS says the second of zombies
        return


if __name__ == "__main__":
    sys.exit(main())
