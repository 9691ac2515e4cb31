"""How far a benchmark is, and how long it will still take."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from .cells import Cell
from .schedule import Task

MAX_TIMED = 200
"""Prompts of a cell whose times are kept, the latest: they are looked at after every prompt."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a benchmark stands once a prompt has ended. With several processes: this one's share.

    Attributes:
        benchmark_id: which.
        num_done: prompts that were answered, in earlier sittings too.
        num_failed: prompts of this sitting that were not.
        num_prompts: of the whole grid.
        left_s: seconds that the rest will take, by the median prompt of each cell; None before the
            first.
        cell: of the prompt that has just ended; None before the first.
        question_id: likewise.
        decode_tok_s: of that run; None where it is not known.
        error: why that prompt failed; None where it did not.
        finished: nothing is left to ask.
    """

    benchmark_id: int
    num_done: int
    num_failed: int
    num_prompts: int
    left_s: float | None = None
    cell: Cell | None = None
    question_id: str | None = None
    decode_tok_s: float | None = None
    error: str | None = None
    finished: bool = False


@dataclass(slots=True)
class Pace:
    """What is left of each cell, and how long its prompts took; one thread's."""

    _left: Counter[str] = field(default_factory=Counter)
    _levels: dict[str, int] = field(default_factory=dict)
    _methods: dict[str, str] = field(default_factory=dict)
    _took_s: dict[str, deque[float]] = field(default_factory=dict)

    def expect(self, tasks: Iterable[tuple[Task, int]]) -> None:
        """Count what is to be asked.

        Args:
            tasks: each with its prompts that are left.
        """
        for task, num_left in tasks:
            key = task.cell.key
            self._left[key] += num_left
            self._levels[key] = task.cell.concurrency
            self._methods[key] = task.cell.method.key

    def add(self, cell: Cell, num_ended: int, took_s: float) -> None:
        """Count prompts that have ended, the first of them after so many seconds."""
        self._left[cell.key] -= num_ended
        self._took_s.setdefault(cell.key, deque(maxlen=MAX_TIMED)).append(took_s)

    def left_s(self) -> float | None:
        """Seconds that the rest will take; None where nothing is known yet."""
        if not self._took_s:
            return None
        return sum(
            count * self._typical_s(key) / self._levels[key]
            for key, count in self._left.items()
            if count
        )

    def _typical_s(self, key: str) -> float:
        """Of the cell, else of its method, else of all."""
        if key in self._took_s:
            return median(self._took_s[key])
        alike = [
            seconds
            for other, took in self._took_s.items()
            if self._methods[other] == self._methods[key]
            for seconds in took
        ]
        return median(alike or [seconds for took in self._took_s.values() for seconds in took])
