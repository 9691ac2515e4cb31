"""Tell the runs of a live process from those that a crash cut.

A process holds an exclusive SQLite lock on a small file of its own beside the database for as long
as it lives; its runs carry the file's name. The operating system frees the lock when the process
ends in any way, so a lease that can be locked, or is gone, belongs to nobody. Unlike a process id
this cannot be mistaken after a restart or in another container, unlike a heartbeat it survives a
suspended laptop and a long computation, and it works wherever the database itself does (Linux,
macOS, Windows), with no library beyond it.

Take and probe leases only while holding the database's write lock: then nobody can find a lease
between its file's creation and its locking.
"""

import sqlite3
import uuid
from pathlib import Path


class Lease:
    """This process's sign of life beside one database."""

    def __init__(self, database: Path) -> None:
        self.name = uuid.uuid4().hex
        self._path = _lease_path(database, self.name)
        self._connection = _connect(self._path)
        try:
            _lock(self._connection)
        except sqlite3.Error:
            self.release()
            raise

    def release(self) -> None:
        """End the lease; runs that still carry it count as interrupted."""
        self._connection.close()
        self._path.unlink(missing_ok=True)


def is_alive(database: Path, name: str) -> bool:
    """Whether a process holds the lease; a dead one's file is removed.

    Args:
        database: the run database.
        name: the lease that a run carries.
    """
    path = _lease_path(database, name)
    if not path.exists():
        return False
    connection = _connect(path)
    try:
        _lock(connection)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return True
    finally:
        connection.close()
    path.unlink(missing_ok=True)
    return False


def _lease_path(database: Path, name: str) -> Path:
    return database.with_name(f"{database.name}-lease-{name}")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def _lock(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode=memory")  # else a second file lies beside each lease
    connection.execute("BEGIN EXCLUSIVE")
