"""A job's items on their way to its reader, who is not woken for each of them.

Waking a thread takes the core and the interpreter away from the one that decodes: for a small model
one reader that takes every item as it comes costs 1 to 4 % of its tok/s.
"""

import time
from collections import deque
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

GATHER_S = 0.02
"""A reader is woken at most twice in this time, for a step and for its text; what comes meanwhile
waits together."""


class Items(Generic[T]):
    """First in, first out, unbounded; one reader, any thread may put.

    Putting is safe from the garbage collector, whatever it interrupted: `SimpleQueue` is.

    Args:
        gather_s: see `GATHER_S`.
    """

    def __init__(self, gather_s: float = GATHER_S) -> None:
        self._gather_s = gather_s
        self._items: SimpleQueue[T] = SimpleQueue()
        self._ended: SimpleQueue[None] = SimpleQueue()
        # When the reader's last two waits were over.
        self._woken_s = deque([-inf, -inf], maxlen=2)

    def put(self, item: T) -> None:
        """Hand an item over; a reader that gathers sleeps on."""
        self._items.put(item)

    def put_last(self, item: T) -> None:
        """Hand over the item after which none comes; the reader is woken at once."""
        self._items.put(item)
        self._ended.put(None)

    def get(self) -> T:
        """Take the oldest item; wait for one where there is none."""
        if self._items.empty():
            self._gather()
            item = self._items.get()
            self._woken_s.append(time.perf_counter())
            return item
        return self._items.get()

    def _gather(self) -> None:
        rest_s = self._woken_s[0] + self._gather_s - time.perf_counter()
        if rest_s > 0:
            with suppress(Empty):
                self._ended.get(timeout=rest_s)
