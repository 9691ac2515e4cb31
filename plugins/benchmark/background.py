"""One benchmark at a time on a thread of its own, for a page whose reader may leave meanwhile."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread

from dflash_app.errors import DFlashAppError, StoreError
from dflash_app.session import closable
from dflash_app.workspace import Workspace

from .kept import create, resumable, sit_down
from .plan import Plan
from .progress import Progress
from .runner import Sitting

TurnTaker = Callable[[Event, Callable[[int], None]], AbstractContextManager[bool]]
"""Waits for the device until the event is set; told how many are before. False: it was set."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the page shows of the benchmark that goes on, or went on last.

    Attributes:
        progress: how far it is.
        running: whether it goes on.
        stopped: whether somebody asked it to stop.
        num_before: runs that have the device before it; None before that is known, 0 once it has
            the device.
        problem: why it ended before its time, a sentence; None where it did not.
    """

    progress: Progress
    running: bool
    stopped: bool = False
    num_before: int | None = None
    problem: str | None = None


class Background:
    """Runs benchmarks for a page; any thread may call it."""

    def __init__(
        self, workspace: Workspace, take_turn: TurnTaker | None = None, owner: str | None = None
    ) -> None:
        """Nothing goes on.

        Args:
            workspace: the app.
            take_turn: keeps the device for one run at a time; None does not wait for it.
            owner: the visitor of a public page whose benchmarks it runs; None: this machine's own.
        """
        self._workspace, self._owner = workspace, owner
        self._take_turn = take_turn or (lambda stop, told: nullcontext(True))
        self._lock = Lock()
        self._stop = Event()
        self._sitting: Sitting | None = None
        self._thread: Thread | None = None
        self._standing: Standing | None = None
        self._dismissed: Standing | None = None
        self._told: Standing | None = None

    def start(self, plan: Plan, files: Sequence[Path] = ()) -> int:
        """Begin a benchmark; returns once its questions are loaded.

        Returns:
            Its id, for `results.results`.

        Raises:
            DFlashAppError: as `kept.create`, or another benchmark goes on.
        """
        with self._lock:
            self._check_idle()
            benchmark_id = create(self._workspace, plan, files, self._owner)
            self._sit_down(benchmark_id)
        return benchmark_id

    def resume(self, benchmark_id: int | None = None) -> int:
        """Go on with a benchmark, the latest unfinished one for None.

        Returns:
            Its id.

        Raises:
            DFlashAppError: as `kept.sit_down`, or another benchmark goes on.
        """
        with self._lock:
            self._check_idle()
            found = resumable(self._workspace.store, benchmark_id)
            self._sit_down(found)
        return found

    def stop(self) -> None:
        """Cancel what runs; the benchmark can be resumed."""
        self._stop.set()
        if self._sitting is not None:
            self._sitting.stop()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing goes on.

        Returns:
            Whether that came about in time.
        """
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def standing(self) -> Standing | None:
        """Where the benchmark stands; None before the first one, and once it is dismissed."""
        standing = self._standing
        if standing is None or standing is self._dismissed:
            return None
        self._told = standing
        return replace(standing, stopped=self._stop.is_set())

    def dismiss(self, *, only_told: bool = False) -> None:
        """Let `standing` say no more of an attempt that failed: its error is that attempt's.

        Args:
            only_told: keep what nobody has asked for yet.
        """
        standing = self._standing
        if standing is None or standing.running or standing.progress.finished:
            return
        if not self._stop.is_set() and (self._told is standing or not only_told):
            self._dismissed = standing

    def _check_idle(self) -> None:
        if self._standing is not None and self._standing.running:
            number = self._standing.progress.benchmark_id
            raise StoreError(f"Benchmark {number} is going on already: stop it first.")

    def _sit_down(self, benchmark_id: int) -> None:
        sitting = sit_down(self._workspace, benchmark_id)
        self._sitting, self._stop = sitting, Event()
        self._standing = Standing(sitting.beginning, running=True)
        # In the context of the event that asks. A daemon: what it has not finished when the app
        # ends is found as interrupted, and resumed.
        work = partial(copy_context().run, self._work, sitting, self._stop)
        self._thread = Thread(target=work, name="benchmark", daemon=True)
        self._thread.start()

    def _work(self, sitting: Sitting, stop: Event) -> None:
        last, problem = Standing(sitting.beginning, running=True), None

        def told(num_before: int) -> None:
            self._standing = replace(last, num_before=num_before)

        try:
            with closing(closable(sitting.run())) as events:
                next(events)  # from here on, leaving it leaves a benchmark that can be resumed
                with self._take_turn(stop, told) as mine:
                    for progress in events if mine else ():
                        last = Standing(progress, running=True, num_before=0)
                        self._standing = last
        except DFlashAppError as error:
            problem = str(error)
        finally:
            self._standing = replace(last, running=False, problem=problem)
