"""Open the database file, and say in one sentence what is wrong with it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlite_utils

from dflash_app.errors import (
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreReadOnly,
    StoreTooNew,
)

# Primary result codes, https://www.sqlite.org/rescode.html (the low byte of an extended code).
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_READ_ONLY = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def connect(path: Path | None, busy_timeout_s: float) -> sqlite_utils.Database:
    """Open a connection that any thread may use, one at a time; transactions are explicit.

    Args:
        path: the file, made with its folder where missing; None keeps everything in memory.
        busy_timeout_s: how long a statement waits for another program's lock.
    """
    if path is not None:
        # Prompts are private: a folder that we make is the user's alone.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(
        str(path or ":memory:"),
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )
    # Plugins of the sqlite-utils command are not ours to run.
    return sqlite_utils.Database(connection, execute_plugins=False)


def use_wal(db: sqlite_utils.Database) -> None:
    """Let readers go on while a run is written. Kept by the file, so asked for only once."""
    if db.journal_mode != "wal":
        try:
            db.execute("PRAGMA journal_mode=wal")
        except sqlite3.OperationalError as error:
            # SQLite does not always wait here: where five processes opened one new file at once,
            # 2 of 600 were refused. The log works without WAL, and the next start asks again.
            if error.sqlite_errorcode & 0xFF not in _LOCKED:
                raise
    db.execute("PRAGMA synchronous=normal")


@contextmanager
def store_errors(path: Path | None) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into `StoreError`s that name the file.

    Raises:
        StoreLocked, StoreReadOnly, StoreCorrupt, StoreTooNew, StoreError.
    """
    try:
        yield
    except StoreCorrupt as error:
        raise StoreCorrupt(_corrupt(path, str(error))) from error
    except StoreTooNew as error:
        raise StoreTooNew(
            f"The run database {path} was written by a newer version of this app ({error}): "
            "update the app, or move the file away to begin a new one."
        ) from error
    except sqlite3.Error as error:
        raise _translated(error, path) from error
    except OSError as error:
        raise StoreReadOnly(_read_only(path, error)) from error


def _translated(error: sqlite3.Error, path: Path | None) -> StoreError:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in _LOCKED:
        return StoreLocked(
            f"The run database {path} is locked by another program: close it (a database browser "
            "with unsaved changes, a backup) and try again."
        )
    if code in _READ_ONLY:
        return StoreReadOnly(_read_only(path, error))
    if code in _CORRUPT:
        return StoreCorrupt(_corrupt(path, str(error)))
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"The disk of the run database {path} is full: free some space.")
    return StoreError(
        f"The run database {path} cannot be used ({error}): restart the app, and "
        "move the file away if that does not help."
    )


def _read_only(path: Path | None, error: Exception) -> str:
    return (
        f"The run database {path} cannot be written ({error}): make the file and its folder "
        "writable, or name another folder in DFLASH_APP_HOME."
    )


def _corrupt(path: Path | None, reason: str) -> str:
    return (
        f"The run database {path} cannot be read ({reason}); nothing was changed in it: move it "
        "away (with the files beside it that end in -wal and -shm) and a new one is begun."
    )
