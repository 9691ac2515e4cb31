"""Threads that ask a server side by side, and end soon where whoever started them leaves."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

GRACE_S = 2.0
"""For what runs to hear that it must stop: it looks at every event that comes."""

Start = Callable[[Callable[[], None]], Future[None]]
"""Starts some work, or lets it wait for a thread."""


@contextmanager
def side_by_side(
    count: int, name: str, stop: Callable[[], None], cut: Callable[[], None]
) -> Iterator[Start]:
    """So many threads; all work has ended afterwards.

    Args:
        count: how many at once.
        name: of the threads.
        stop: tells the work to end; called where the block is left by an exception.
        cut: ends what waits for a server that says nothing; called `GRACE_S` after Ctrl+C.

    Yields:
        What starts work.
    """
    started: list[Future[None]] = []
    with ThreadPoolExecutor(count, name) as pool:

        def start(work: Callable[[], None]) -> Future[None]:
            started.append(pool.submit(work))
            return started[-1]

        try:
            yield start
        except BaseException as error:
            stop()
            for future in started:
                future.cancel()
            if not isinstance(error, Exception) and wait(started, GRACE_S).not_done:
                cut()
            raise
