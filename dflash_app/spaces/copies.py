"""The run log on a disk that is lost at every restart, with copies of it in a mounted folder.

SQLite must not work on a mounted bucket, which knows no locks. So the log stays on the local disk,
a whole copy of it goes to the folder now and then, and the next start begins with that.
"""

import logging
import shutil
import threading
import time
from pathlib import Path

from dflash_app.errors import StoreError
from dflash_app.settings import Settings
from dflash_app.store.runs import Store
from dflash_app.store.snapshot import write_snapshot

INTERVAL_S = 60.0
"""Most that a crash can lose, while a copy takes less than two seconds."""
_MAX_SHARE = 30
"""The pause after a copy is so many times as long as it took: a large log takes long to write."""

log = logging.getLogger(__name__)


def open_store(settings: Settings) -> tuple[Store, StoreError | None]:
    """The run log, or one in memory and the reason: chatting goes on without a database."""
    try:
        if settings.bucket is not None:
            restore(settings.bucket, settings.database)
        return Store(settings.database), None
    except StoreError as problem:
        return Store(None), problem


def restore(bucket: Path, database: Path) -> bool:
    """Begin with the copy where there is no log yet.

    Returns:
        Whether there was one to take.

    Raises:
        StoreError: the folder is not there, or the copy cannot be read.
    """
    if not bucket.is_dir():
        raise StoreError(
            f"DFLASH_APP_BUCKET names {bucket}, which is no folder here: mount it, or unset the "
            "variable."
        )
    copy = bucket / database.name
    if database.exists() or not copy.is_file():
        return False
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(copy, database)
    except OSError as error:
        raise StoreError(
            f"The copy {copy} of the run log cannot be read ({error.strerror}): mend it, or unset "
            "DFLASH_APP_BUCKET to begin a new log."
        ) from error
    return True


class Copies:
    """Copies the log whenever it has changed; a failure is told in the terminal and tried again."""

    def __init__(self, database: Path, bucket: Path, *, interval_s: float = INTERVAL_S) -> None:
        self._database, self._copy = database, bucket / database.name
        self._interval_s = interval_s
        self._seen: tuple[int, ...] = ()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="copies", daemon=True)

    def start(self) -> None:
        """Copy from now on, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Copy once more where something changed, and stop."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def copy_now(self) -> bool:
        """Copy the log where it changed since the last copy.

        Returns:
            Whether it was copied.

        Raises:
            StoreError: it cannot be.
        """
        state = self._state()
        if state == self._seen:
            return False
        whole = self._database.with_name(f"{self._database.name}-copy")
        whole.unlink(missing_ok=True)
        try:
            write_snapshot(self._database, whole)
            _replace(whole, self._copy)
        except OSError as error:
            raise StoreError(
                f"The run log cannot be copied to {self._copy} ({error.strerror}): make the "
                "folder of DFLASH_APP_BUCKET writable."
            ) from error
        finally:
            whole.unlink(missing_ok=True)
        self._seen = state
        return True

    def _work(self) -> None:
        over, took_s = False, 0.0
        while not over:
            over = self._over.wait(max(self._interval_s, _MAX_SHARE * took_s))
            began_s = time.monotonic()
            try:
                self.copy_now()
            except StoreError as error:
                log.warning("%s", error)
            took_s = time.monotonic() - began_s

    def _state(self) -> tuple[int, ...]:
        """Sizes and times of the log's files: whatever is written changes one of them."""
        found: list[int] = []
        for end in ("", "-wal"):
            path = self._database.with_name(self._database.name + end)
            if path.exists():
                stat = path.stat()
                found += [stat.st_size, stat.st_mtime_ns]
        return tuple(found)


def _replace(source: Path, target: Path) -> None:
    """Copy a file so that nobody ever finds half of it, and no other user can read it."""
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)  # of a process that was killed
    part.touch(mode=0o600)
    shutil.copyfile(source, part)
    part.replace(target)
