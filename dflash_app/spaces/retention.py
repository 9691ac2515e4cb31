"""Conversations and runs that are deleted by themselves once they are old enough."""

import logging
import threading
from datetime import UTC, datetime, timedelta

from dflash_app.errors import StoreError
from dflash_app.store.runs import Store

INTERVAL_S = 24 * 3600.0

log = logging.getLogger(__name__)


class Retention:
    """Deletes at the start and daily; a failure is told in the terminal and tried again."""

    def __init__(self, store: Store, keep_days: int, *, interval_s: float = INTERVAL_S) -> None:
        """Nothing is deleted yet.

        Args:
            store: of what.
            keep_days: how long a conversation stays after its last message, and a run.
            interval_s: from one look to the next.
        """
        self._store, self._age = store, timedelta(days=keep_days)
        self._interval_s = interval_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retention", daemon=True)

    def start(self) -> None:
        """Delete now and from time to time, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        over = False
        while not over:
            try:
                self._store.expire(datetime.now(UTC) - self._age)
            except StoreError as error:
                log.warning("%s", error)
            over = self._over.wait(self._interval_s)
