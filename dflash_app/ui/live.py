"""From the decode thread to the page: a reader drains a run, the page looks in ten times a second.

A yield costs Gradio about a millisecond and the browser far more: one for each token cuts decoding
to a fifth. Times are taken where decoding happens, so looking in seldom changes no figure.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Generic, Literal, TypeVar

from dflash_app.engine.stopping import stopped_by
from dflash_app.errors import DFlashAppError

ItemT = TypeVar("ItemT")
Phase = Literal["waiting", "loading", "running", "ended"]

INTERVAL_S = 0.1
HEARTBEAT_S = 0.5
"""Longest silence between two looks: Gradio notices a closed browser tab only when we yield."""


class DeviceTurn:
    """One run at a time loads and decodes; the others wait here, where they can still be stopped.

    Holding the turn while loading keeps one browser tab from unloading the pair that another uses.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, stop: threading.Event) -> Iterator[bool]:
        """Wait for the turn; yields False where `stop` was set first."""
        while not stop.is_set():
            if self._lock.acquire(timeout=INTERVAL_S):
                try:
                    yield not stop.is_set()
                finally:
                    self._lock.release()
                return
        yield False

    @contextmanager
    def taken_now(self) -> Iterator[bool]:
        """Take the turn if nobody has it; yields False where somebody has."""
        taken = self._lock.acquire(blocking=False)
        try:
            yield taken
        finally:
            if taken:
                self._lock.release()


class LiveRun(Generic[ItemT]):
    """One run being read by its own thread.

    Attributes:
        phase: waiting for the device, loading, running (an item came), ended.
        error: what the run failed with; None while it goes on and when it ended well.
        broken: True where the run ended by an error that is a bug of ours (the terminal tells it).
        dropped: the user cleared the page: what came is not to be shown again.
    """

    def __init__(self, source: Callable[[], Iterator[ItemT]], turn: DeviceTurn) -> None:
        """Start reading.

        Args:
            source: loads what it needs and returns the run; called in the reader's thread.
            turn: taken before `source` is called and held to the end of the run.
        """
        self.phase: Phase = "waiting"
        self.error: DFlashAppError | None = None
        self.broken = True
        self.dropped = False
        self._source = source
        self._turn = turn
        self._items: SimpleQueue[ItemT] = SimpleQueue()
        self._stop = threading.Event()
        self._ended = threading.Event()
        threading.Thread(target=self._read, name="live-run", daemon=True).start()

    @property
    def stopped(self) -> bool:
        """True once `stop` was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Cancel within one step; `looks` then ends by itself."""
        self._stop.set()

    def looks(self, interval_s: float = INTERVAL_S) -> Iterator[list[ItemT]]:
        """Yield what came since the last look, at most every `interval_s`; last look included.

        An empty list means that only the phase changed, or nothing for a while. Closing this
        iterator stops the run.
        """
        phase, last_s = None, 0.0
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
            with stopped_by(self._stop), self._turn.taken(self._stop) as mine:
                if mine:
                    self._read_all()
            self.broken = False
        except DFlashAppError as error:
            self.error, self.broken = error, False
        finally:
            self.phase = "ended"
            self._ended.set()

    def _read_all(self) -> None:
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

    def __init__(self) -> None:
        self.turn = DeviceTurn()
        self._runs: dict[tuple[str, str], LiveRun[object]] = {}
        self._lock = threading.Lock()

    def start(
        self, session: str, place: str, source: Callable[[], Iterator[ItemT]]
    ) -> LiveRun[ItemT]:
        """Start a run; one that the same session still has in the same place is stopped."""
        run: LiveRun[ItemT] = LiveRun(source, self.turn)
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
