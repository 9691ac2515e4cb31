"""A stop that reaches a run while its reader waits.

Closing a stream is its reader's to do, and while a long prompt is read the reader is blocked inside
it, below the generators that record and compare. So whoever may stop a run opens a scope around
reading it, as with anyio's cancel scopes, and the job that starts inside looks at the event.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event

_stop: ContextVar[Event | None] = ContextVar("stop", default=None)


@contextmanager
def stopped_by(stop: Event) -> Iterator[None]:
    """Jobs that this thread starts inside end as cancelled, last event included, on `stop`.

    Args:
        stop: may be set on any thread, at any time.
    """
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


def current_stop() -> Event | None:
    """The event of the innermost scope, None outside of any."""
    return _stop.get()
