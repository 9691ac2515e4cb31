"""From the decode thread to the page: a reader drains a run, the page looks in ten times a second.

A yield costs Gradio about a millisecond and the browser far more: one for each token cuts decoding
to a fifth. Times are taken where decoding happens, so looking in seldom changes no figure.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, Literal, TypeVar

from dflash_app.engine.stopping import stopped_by
from dflash_app.errors import DFlashAppError, QueueFull
from dflash_app.spaces.public import hide_paths

ItemT = TypeVar("ItemT")
Phase = Literal["waiting", "loading", "running", "ended"]

INTERVAL_S = 0.1
HEARTBEAT_S = 0.5
"""Longest silence between two looks: Gradio notices a closed browser tab only when we yield."""


MAX_WAITING = 64
"""Runs that may stand in line before more are refused, where nobody says another number."""


class _Place:
    """One who stands in line, or has the turn."""

    def __init__(self, visitor: str | None) -> None:
        self.visitor = visitor


class DeviceTurn:
    """One run at a time loads and decodes; the others stand in line, where they can be stopped.

    Holding the turn while loading keeps one browser tab from unloading the pair that another uses.
    """

    def __init__(self, max_waiting: int = MAX_WAITING, max_per_visitor: int | None = None) -> None:
        """Nobody has it.

        Args:
            max_waiting: runs that may wait; who comes after them is refused.
            max_per_visitor: runs of one visitor that may wait or decode; None sets no limit.
        """
        self._max_waiting, self._max_per_visitor = max_waiting, max_per_visitor
        self._line: list[_Place] = []  # the first has the turn
        self._moved = threading.Condition()

    @contextmanager
    def taken(
        self,
        stop: threading.Event,
        visitor: str | None = None,
        told: Callable[[int], None] = lambda _: None,
    ) -> Iterator[bool]:
        """Wait for the turn, first come first served; yields False where `stop` was set first.

        Args:
            stop: may be set on any thread.
            visitor: who waits, where several people share the page.
            told: how many are before this one, whenever that changes.

        Raises:
            QueueFull: as many as may already wait; says how many.
        """
        place = self._join(visitor)
        try:
            yield self._wait(place, stop, told) and not stop.is_set()
        finally:
            self._leave(place)

    @contextmanager
    def taken_now(self) -> Iterator[bool]:
        """Take the turn if nobody has it; yields False where somebody has."""
        place = _Place(None)
        with self._moved:
            taken = not self._line
            if taken:
                self._line.append(place)
        try:
            yield taken
        finally:
            if taken:
                self._leave(place)

    def _join(self, visitor: str | None) -> _Place:
        place = _Place(visitor)
        with self._moved:
            num_before, most = len(self._line), self._max_per_visitor
            if num_before > self._max_waiting:
                raise QueueFull(
                    f"The queue is full: {num_before} requests are before yours, which would be "
                    f"number {num_before + 1}, and {self._max_waiting} may wait: try again later."
                )
            own = [index for index, each in enumerate(self._line) if each.visitor == visitor]
            if visitor is not None and most is not None and len(own) >= most:
                raise QueueFull(
                    f"You have {len(own)} requests in the queue, the first at place {own[0] + 1}, "
                    f"and {most} may be: wait for one of them, or stop it."
                )
            self._line.append(place)
        return place

    def _wait(self, place: _Place, stop: threading.Event, told: Callable[[int], None]) -> bool:
        num_before = None
        while not stop.is_set():
            with self._moved:
                now_before = self._line.index(place)
                if now_before == num_before:
                    self._moved.wait(INTERVAL_S)  # `stop` is nobody's to announce
                    continue
            num_before = now_before
            told(num_before)
            if num_before == 0:
                return True
        return False

    def _leave(self, place: _Place) -> None:
        with self._moved:
            self._line.remove(place)
            self._moved.notify_all()


class LiveRun(Generic[ItemT]):
    """One run being read by its own thread, from the first look on.

    Not sooner: while the page still draws the question, it takes the cores that decoding needs.

    Attributes:
        phase: waiting for the device, loading, running (an item came), ended.
        error: what the run failed with; None while it goes on and when it ended well.
        broken: True where the run ended by an error that is a bug of ours (the terminal tells it).
        dropped: the user cleared the page: what came is not to be shown again.
        num_before: runs that stand before this one; None before that is known.
    """

    def __init__(
        self,
        source: Callable[[], Iterator[ItemT]],
        turn: DeviceTurn,
        visitor: str | None = None,
        admit: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is read yet.

        Args:
            source: loads what it needs and returns the run; called in the reader's thread, in the
                context of this call, so that it knows whose event is answered.
            turn: taken before `source` is called and held to the end of the run.
            visitor: whose run it is, see `DeviceTurn.taken`.
            admit: called before anything else; what it raises refuses the run.
        """
        self.phase: Phase = "waiting"
        self.num_before: int | None = None
        self.error: DFlashAppError | None = None
        self.broken = True
        self.dropped = False
        self._source = source
        self._turn, self._visitor, self._admit = turn, visitor, admit
        self._items: SimpleQueue[ItemT] = SimpleQueue()
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._loading_since_s = 0.0
        read = partial(copy_context().run, self._read)
        self._reader = threading.Thread(target=read, name="live-run", daemon=True)
        self._starting = threading.Lock()

    @property
    def stopped(self) -> bool:
        """True once `stop` was called."""
        return self._stop.is_set()

    @property
    def loading_s(self) -> float:
        """Seconds that loading has taken so far; 0 before it and after."""
        return time.monotonic() - self._loading_since_s if self.phase == "loading" else 0.0

    def start(self) -> None:
        """Begin to read where nobody has looked yet; a run that was stopped before ends at once."""
        with self._starting:
            if self._reader.ident is None:
                self._reader.start()

    def stop(self) -> None:
        """Cancel within one step; `looks` then ends by itself."""
        self._stop.set()

    def looks(self, interval_s: float = INTERVAL_S) -> Iterator[list[ItemT]]:
        """Yield what came since the last look, at most every `interval_s`; last look included.

        An empty list means that only the phase changed, or nothing for a while. Closing this
        iterator stops the run.
        """
        phase, last_s = None, 0.0
        self.start()
        try:
            while True:
                ended = self._ended.wait(interval_s)
                items, now_s = self._drain(), time.monotonic()
                if items or ended or self.phase != phase or now_s - last_s >= HEARTBEAT_S:
                    phase, last_s = self.phase, now_s
                    yield items
                if ended:
                    return
        finally:
            self.stop()

    def _drain(self) -> list[ItemT]:
        items: list[ItemT] = []
        while True:
            try:
                items.append(self._items.get_nowait())
            except Empty:
                return items

    def _read(self) -> None:
        try:
            self._admit()
            turn = self._turn.taken(self._stop, self._visitor, self._be_told)
            with stopped_by(self._stop), turn as mine:
                if mine:
                    self._read_all()
            self.broken = False
        except DFlashAppError as error:
            shown = error if self._visitor is None else DFlashAppError(hide_paths(str(error)))
            self.error, self.broken = shown, False
        finally:
            self.phase = "ended"
            self._ended.set()

    def _be_told(self, num_before: int) -> None:
        self.num_before = num_before

    def _read_all(self) -> None:
        self._loading_since_s = time.monotonic()
        self.phase = "loading"
        items = self._source()
        try:
            for item in items:
                self.phase = "running"
                self._items.put(item)
                if self.stopped:
                    break
        finally:
            if close := getattr(items, "close", None):
                close()


class LiveRuns:
    """The runs of all browser tabs, by session and place ("chat", "compare")."""

    def __init__(self, turn: DeviceTurn | None = None) -> None:
        self.turn = turn or DeviceTurn()
        self._runs: dict[tuple[str, str], LiveRun[object]] = {}
        self._lock = threading.Lock()

    def start(
        self,
        session: str,
        place: str,
        source: Callable[[], Iterator[ItemT]],
        visitor: str | None = None,
        admit: Callable[[], None] = lambda: None,
    ) -> LiveRun[ItemT]:
        """Make a run, which its first look starts; the session's one in the same place is stopped.

        Args:
            session: the browser tab.
            place: of the tab that shows it.
            source: see `LiveRun`.
            visitor: whose run it is, see `DeviceTurn.taken`.
            admit: see `LiveRun`.
        """
        run: LiveRun[ItemT] = LiveRun(source, self.turn, visitor, admit)
        with self._lock:
            previous = self._runs.get((session, place))
            self._runs[session, place] = run  # type: ignore[assignment]
        if previous is not None:
            previous.stop()
        return run

    def stop(self, session: str, place: str) -> None:
        """Stop the session's run in `place`; no run is no error."""
        with self._lock:
            run = self._runs.get((session, place))
        if run is not None:
            run.stop()

    def drop(self, session: str, place: str) -> None:
        """Stop the session's run in `place` and mark it as one that must not be shown again."""
        with self._lock:
            run = self._runs.pop((session, place), None)
        if run is not None:
            run.dropped = True
            run.stop()

    def leave(self, session: str) -> None:
        """Stop and forget all runs of a session that is over."""
        with self._lock:
            runs = [self._runs.pop(key) for key in list(self._runs) if key[0] == session]
        for run in runs:
            run.stop()
