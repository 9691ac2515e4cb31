"""A server of this machine, started from a plan and stopped with the app."""

import http.client
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, Literal, cast

from dflash_app.errors import PlanError
from dflash_app.serving import supervise
from dflash_app.serving.plan import TITLES, ServePlan

State = Literal["none", "starting", "ready", "ended"]

LOG_TAIL_LINES = 40
_TAIL_BYTES = 20_000
_HEALTH_TIMEOUT_S = 0.5
_STOP_TIMEOUT_S = 20.0
_PYTHONS = ("python", "python3")


@dataclass(frozen=True, slots=True)
class Standing:
    """How the server is.

    Attributes:
        state: "ready" once it answers; "ended" by itself or by `stop`.
        plan: that it runs; None where nothing was started.
        status: its exit status once it ended.
        log: the last lines that it printed.
    """

    state: State
    plan: ServePlan | None
    status: int | None
    log: tuple[str, ...]


class LocalServer:
    """At most one server of this machine. Any thread may call it."""

    def __init__(self, folder: Path) -> None:
        """Know where logs go.

        Args:
            folder: of the user; made when a server is started.
        """
        self._folder = folder
        self._lock = Lock()
        self._plan: ServePlan | None = None
        self._process: subprocess.Popen[str] | None = None
        self._answered = False

    def start(self, plan: ServePlan) -> None:
        """Start what a plan says; returns at once.

        Raises:
            PlanError: it is for several machines, the engine is not installed, its port is taken,
                or another server runs.
        """
        with self._lock:
            if self._process is not None:
                if self._process.poll() is None:
                    raise PlanError("A server is running already: stop it first.")
                _close_input(self._process)
            argv = local_argv(plan)
            _check_port(plan)
            self._folder.mkdir(parents=True, exist_ok=True)
            request = {
                "argv": argv,
                "environment": {each.name: each.value for each in plan.variables},
                "log": str(self._log),
            }
            self._log.write_bytes(b"")
            self._plan, self._process, self._answered = plan, _supervise(request), False

    def stop(self) -> None:
        """End the server and whatever it started; returns when they are gone."""
        with self._lock:
            if self._process is None:
                return
            _close_input(self._process)
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def standing(self) -> Standing:
        """How it is now; asks the server itself until it answers, for half a second at most."""
        plan, process = self._plan, self._process
        if plan is None or process is None:
            return Standing("none", None, None, ())
        status = process.poll()
        if status is not None:
            return Standing("ended", plan, status, self._tail())
        # Engines log every question, which would soon be all that the log's end holds.
        self._answered = self._answered or _answers(plan)
        return Standing("ready" if self._answered else "starting", plan, None, self._tail())

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    def _tail(self) -> tuple[str, ...]:
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
                lines = log.read().decode("utf-8", errors="replace").splitlines()
        except OSError:
            return ()
        return tuple(lines[-LOG_TAIL_LINES:])


def local_argv(plan: ServePlan) -> list[str]:
    """The command with the full path of what runs it, found by the engine's own script on PATH.

    Raises:
        PlanError: it is for several machines, or the engine is not installed.
    """
    if len(plan.node_arguments) > 1:
        raise PlanError("This plan is for several machines: start it there, node by node.")
    script = shutil.which(plan.engine)
    if script is None:
        raise PlanError(
            f"{TITLES[plan.engine]} is not installed: run `pip install '{plan.needs.package}'` in "
            "an environment of its own, and start this app with its bin folder on PATH."
        )
    first, *rest = plan.argv()
    if first not in _PYTHONS:
        return [script, *rest]
    python = Path(script).with_name("python3")
    if not python.exists():
        raise PlanError(
            f"There is no python3 beside {script}: install {TITLES[plan.engine]} with pip in an "
            "environment of its own."
        )
    return [str(python), *rest]


def _check_port(plan: ServePlan) -> None:
    """Refuse where somebody else would answer."""
    with socket.socket() as asked:
        asked.settimeout(_HEALTH_TIMEOUT_S)
        if asked.connect_ex((_host(plan), plan.port)) == 0:
            raise PlanError(f"Port {plan.port} is taken on this machine: give another one.")


def _answers(plan: ServePlan) -> bool:
    """Whether the engine says that it is up; both serve /health once the model is loaded."""
    asked = http.client.HTTPConnection(_host(plan), plan.port, timeout=_HEALTH_TIMEOUT_S)
    try:
        asked.request("GET", "/health")
        return asked.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asked.close()


def _host(plan: ServePlan) -> str:
    return plan.base_url.removeprefix("http://").rpartition(":")[0]


def _supervise(request: Mapping[str, object]) -> "subprocess.Popen[str]":
    process = subprocess.Popen(  # noqa: S603 - our own file
        [sys.executable, "-P", supervise.__file__],  # -P: no module from beside it
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    with _ignoring_its_end():  # left open: the server ends when this app does
        stdin = cast(IO[str], process.stdin)
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
    return process


def _close_input(process: "subprocess.Popen[str]") -> None:
    """Tell the supervisor to end, where it has not."""
    with _ignoring_its_end():
        cast(IO[str], process.stdin).close()


@contextmanager
def _ignoring_its_end() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # it ended already, which `standing` tells
        return
