"""Download jobs on disk, so that a crash loses none: a small database in the user's folder."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from dflash_app.errors import StoreError
from dflash_app.hub.process import Wanted
from dflash_app.store.connect import connect, store_errors
from dflash_app.store.lease import Lease, is_alive

JobState = Literal["queued", "active", "paused", "done", "failed", "cancelled", "interrupted"]

BUSY_TIMEOUT_S = 2.0
KEPT_JOBS = 100
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY, pair TEXT NOT NULL, models TEXT NOT NULL, state TEXT NOT NULL,
  done_bytes INTEGER NOT NULL, total_bytes INTEGER, message TEXT, licence_url TEXT,
  created TEXT NOT NULL, changed TEXT NOT NULL, lease TEXT)
"""
COLUMNS = "id, pair, models, state, done_bytes, total_bytes, message, licence_url, created, changed"


@dataclass(frozen=True, slots=True)
class Job:
    """A download, as it is now.

    Attributes:
        id: stays the same over pauses and restarts.
        pair: name of the pair.
        models: what is fetched.
        state: "interrupted": the app ended before the job did.
        done_bytes: on disk so far, earlier runs included.
        total_bytes: of all files; None until the hub told.
        rate_bytes_s: over the last seconds; None where nothing is transferred.
        left_s: time left at that rate.
        message: why it failed, or what it waits for.
        licence_url: of a gated model: accept there, then resume.
        created: when it was asked for.
        changed: when its state changed last.
    """

    id: int
    pair: str
    models: tuple[Wanted, ...]
    state: JobState
    done_bytes: int = 0
    total_bytes: int | None = None
    rate_bytes_s: float | None = None
    left_s: float | None = None
    message: str | None = None
    licence_url: str | None = None
    created: datetime = datetime.min
    changed: datetime = datetime.min

    @property
    def live(self) -> bool:
        """Whether it is being done or waits for its turn."""
        return self.state in ("queued", "active")


class JobStore:
    """The jobs' rows. Any thread may call it, one at a time."""

    def __init__(self, path: Path) -> None:
        """Use the database at `path`; it is made when the first job is saved.

        Where it cannot be used, jobs are kept in memory and `problem` says why.
        """
        self.problem: StoreError | None = None
        self._path: Path | None = path
        self._db: sqlite3.Connection | None = None
        self._lease: Lease | None = None

    def load(self) -> list[Job]:
        """The saved jobs; those that a dead process left are interrupted.

        Jobs that another living process is doing are that one's own and left out.
        """
        if self._path is None or not self._path.exists():
            return []
        with self._transaction() as db:
            for id_, lease in db.execute(
                "SELECT id, lease FROM jobs WHERE state IN ('queued', 'active')"
            ).fetchall():
                if lease is None or not is_alive(self._path, lease):
                    db.execute(
                        "UPDATE jobs SET state = 'interrupted', lease = NULL WHERE id = ?", [id_]
                    )
            rows = db.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE state NOT IN ('queued', 'active') ORDER BY id"  # noqa: S608
            ).fetchall()
            return [_job(row) for row in rows]

    def elsewhere(self) -> list[Job]:
        """The jobs that other living processes do, or will do."""
        if self._path is None or not self._path.exists():
            return []
        own = self._lease.name if self._lease else None
        with self._transaction() as db:
            rows = db.execute(
                f"SELECT {COLUMNS}, lease FROM jobs WHERE state IN ('queued', 'active')"  # noqa: S608
            ).fetchall()
            return [
                _job(row)
                for *row, lease in rows
                if lease and lease != own and is_alive(self._path, lease)
            ]

    def add(self, pair: str, models: Sequence[Wanted]) -> Job:
        """Save a new job, paused: whoever queues it saves it again."""
        now = datetime.now(UTC)
        job = Job(0, pair, tuple(models), "paused", created=now, changed=now)
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO jobs (pair, models, state, done_bytes, created, changed)"
                " VALUES (?, ?, ?, 0, ?, ?)",
                [pair, _models_text(models), job.state, now.isoformat(), now.isoformat()],
            )
            return replace(job, id=int(cursor.lastrowid or 0))

    def save(self, job: Job) -> None:
        """Write a job's state; a live one carries this process's lease."""
        with self._transaction() as db:
            if job.live and self._lease is None and self._path is not None:
                self._lease = Lease(self._path)
            lease = self._lease.name if self._lease and job.live else None
            db.execute(
                "UPDATE jobs SET models = ?, state = ?, done_bytes = ?, total_bytes = ?,"
                " message = ?, licence_url = ?, changed = ?, lease = ? WHERE id = ?",
                [
                    _models_text(job.models),
                    job.state,
                    job.done_bytes,
                    job.total_bytes,
                    job.message,
                    job.licence_url,
                    job.changed.isoformat(),
                    lease,
                    job.id,
                ],
            )
            db.execute(
                "DELETE FROM jobs WHERE state = 'done' AND id <= (SELECT max(id) FROM jobs) - ?",
                [KEPT_JOBS],
            )

    def delete(self, job_id: int) -> None:
        """Forget a job."""
        with self._transaction() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", [job_id])

    def close(self) -> None:
        """Give the lease back; live jobs count as interrupted from now on."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        if self._db is not None:
            self._db.close()
            self._db = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connection()
        with store_errors(self._path):
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._db = self._open()
            except StoreError as problem:
                self.problem, self._path = problem, None
                self._db = self._open()
        return self._db

    def _open(self) -> sqlite3.Connection:
        with store_errors(self._path):
            db: sqlite3.Connection = connect(self._path, BUSY_TIMEOUT_S).conn
            db.execute(SCHEMA)
            return db


def _models_text(models: Sequence[Wanted]) -> str:
    return json.dumps([[each.repo, each.revision, each.role] for each in models])


def _job(row: Sequence[object]) -> Job:
    id_, pair, models, state, done, total, message, url, created, changed = row
    return Job(
        id=int(str(id_)),
        pair=str(pair),
        models=tuple(Wanted(*each) for each in json.loads(str(models))),
        state=state,  # type: ignore[arg-type]
        done_bytes=int(str(done)),
        total_bytes=None if total is None else int(str(total)),
        message=None if message is None else str(message),
        licence_url=None if url is None else str(url),
        created=datetime.fromisoformat(str(created)),
        changed=datetime.fromisoformat(str(changed)),
    )
