"""The background runs of a page: this machine's, or each visitor's, in the line of its runs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Event, Lock

from dflash_app.ui.live import DeviceTurn
from dflash_app.workspace import Workspace

from .background import Background

MAX_KEPT = 64
"""Visitors whose last benchmark's end is remembered; what it measured is in the run log."""


class Benches:
    """Hands out the background run of whoever asks; any thread may call it."""

    def __init__(self, workspace: Workspace, turn: DeviceTurn) -> None:
        """Nothing goes on.

        Args:
            workspace: the app.
            turn: keeps the page's runs apart: a benchmark holds it from loading to its end, so
                that nothing else decodes while it measures.
        """
        self._workspace, self._turn = workspace, turn
        self._lock = Lock()
        self._benches: dict[str | None, Background] = {}

    def of(self, owner: str | None) -> Background:
        """The background run of a visitor; None: of this machine."""
        with self._lock:
            if owner not in self._benches:
                self._forget_idle()
                self._benches[owner] = self._make(owner)
            return self._benches[owner]

    def _make(self, owner: str | None) -> Background:
        def take_turn(stop: Event, told: Callable[[int], None]) -> AbstractContextManager[bool]:
            return self._turn.taken(stop, owner, told)

        return Background(self._workspace, take_turn, owner)

    def _forget_idle(self) -> None:
        """Make room, the longest known first."""
        for owner, bench in list(self._benches.items()):
            if len(self._benches) < MAX_KEPT:
                return
            standing = bench.standing()
            if standing is None or not standing.running:
                del self._benches[owner]
