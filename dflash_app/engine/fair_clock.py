"""Several lanes on one device: each is timed by its own work, the one that is behind moves."""

import time
from collections.abc import Callable, Iterator, Sequence

from dflash_app.events import DecodeEvent, Finished


class Stopwatch:
    """Seconds of one lane's own work: stands still between `pause` and `resume`."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._counted_s = 0.0
        self._resumed_s: float | None = None

    def resume(self) -> None:
        """Run on."""
        self._resumed_s = self._now()

    def pause(self) -> None:
        """Stand still."""
        self._counted_s, self._resumed_s = self.elapsed_s(), None

    def elapsed_s(self) -> float:
        """Seconds counted so far."""
        if self._resumed_s is None:
            return self._counted_s
        return self._counted_s + self._now() - self._resumed_s


def interleave(
    lanes: Sequence[Iterator[DecodeEvent]], clocks: Sequence[Stopwatch]
) -> Iterator[tuple[int, DecodeEvent]]:
    """Advance the lane whose clock is behind, after every lane has read its prompt.

    Args:
        lanes: each ends with Finished; closed here in any case.
        clocks: one for each lane, standing still.
    """
    racing = list(range(len(lanes)))
    try:
        reading = list(racing)
        while racing:
            index = reading.pop(0) if reading else min(racing, key=lambda i: clocks[i].elapsed_s())
            clocks[index].resume()
            try:
                event = next(lanes[index])
            finally:
                clocks[index].pause()
            if isinstance(event, Finished):
                racing.remove(index)
            yield index, event
    finally:
        for lane in lanes:
            close = getattr(lane, "close", None)
            if close is not None:
                close()
