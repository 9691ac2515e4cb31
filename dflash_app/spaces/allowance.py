"""How many runs one visitor of a public page may begin in an hour."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from dflash_app.errors import QueueFull

HOUR_S = 3600.0


class Allowance:
    """Counts what each visitor began in the last hour. Any thread may call it."""

    def __init__(self, max_per_hour: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody has begun anything.

        Args:
            max_per_hour: runs of one visitor.
            clock: seconds.
        """
        self._max_per_hour, self._clock = max_per_hour, clock
        self._begun: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def take(self, visitor: str) -> None:
        """Count a run that begins.

        Raises:
            QueueFull: it would be one too many; says when to come back.
        """
        with self._lock:
            now_s = self._clock()
            self._forget(now_s - HOUR_S)
            begun = self._begun.setdefault(visitor, deque())
            if len(begun) >= self._max_per_hour:
                raise QueueFull(_refusal(len(begun), begun[0] + HOUR_S - now_s))
            begun.append(now_s)

    def _forget(self, before_s: float) -> None:
        for visitor, begun in list(self._begun.items()):
            while begun and begun[0] <= before_s:
                begun.popleft()
            if not begun:
                del self._begun[visitor]


def _refusal(num_begun: int, wait_s: float) -> str:
    minutes = math.ceil(wait_s / 60)
    when = datetime.now(UTC) + timedelta(seconds=wait_s)
    return (
        f"You have begun {num_begun} runs in the last hour, as many as this public page gives: "
        f"come back in {minutes} minute{'s' * (minutes > 1)}, at {when:%H:%M} UTC."
    )
