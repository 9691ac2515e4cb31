"""The store: a thread-safe log of runs in one SQLite file."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any, Self, cast

from sqlite_utils.db import NotFoundError

from dflash_app.errors import StoreCorrupt, StoreError
from dflash_app.events import DecodeEvent
from dflash_app.metrics import RunMetrics
from dflash_app.store.benchmarks import Benchmarks
from dflash_app.store.chats import Chats, expire_chats, take_replies
from dflash_app.store.connect import connect, store_errors, use_wal
from dflash_app.store.lease import Lease, is_alive
from dflash_app.store.overview import ALL_RUNS, Overview, readable
from dflash_app.store.records import (
    RunEnd,
    RunFilter,
    RunRecord,
    RunStart,
    finish_row,
    progress_row,
    read_record,
    start_row,
    time_text,
)
from dflash_app.store.run_events import decode_events, encode_events
from dflash_app.store.schema import migrate, schema_version

BUSY_TIMEOUT_S = 3.0
"""How long to wait for another program's lock: our own writes take milliseconds."""


class Store:
    """The run log. Any thread may call it; one lock makes them take turns on one connection.

    Opening brings the file to the newest format and marks the runs of processes that died as
    interrupted. Every method raises a `StoreError` (StoreLocked, StoreReadOnly, StoreCorrupt,
    StoreTooNew) with one sentence to show. A forked child must open a store of its own.

    Attributes:
        path: the database file; None for a log that lives in memory only.
        benchmarks: what each measures, and which runs are its own.
        chats: the conversations.
        overview: the runs as a table: any order, choices, which have ended.
    """

    def __init__(self, path: Path | None, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = path
        self._lock = RLock()
        self._lease: Lease | None = None
        with store_errors(path):
            self._db = connect(path, busy_timeout_s)
        self.benchmarks = Benchmarks(
            self._db, self._reading, self._transaction, self._lease_name, self._is_alive
        )
        self.chats = Chats(self._db, self._reading, self._transaction)
        self.overview = Overview(self._db, self._reading)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Runs that have not finished will be found as interrupted."""
        with self._lock:
            if self._lease is not None:
                self._lease.release()
                self._lease = None
            self._db.close()

    def start_run(self, start: RunStart) -> int:
        """Record that a run begins.

        Returns:
            Its id, for the other methods.
        """
        row = start_row(start) | {"lease": self._lease_name()}
        with self._transaction():
            return cast(int, self._db.table("runs").insert(row, pk="id").last_pk)

    def save_progress(self, run_id: int, output: str, token_ids: Sequence[int]) -> None:
        """Save what came so far, so that a crash leaves it; about once a second is enough."""
        with self._transaction():
            self._update(run_id, progress_row(output, tuple(token_ids)))

    def finish_run(
        self,
        run_id: int,
        reason: RunEnd,
        *,
        output: str,
        token_ids: Sequence[int],
        metrics: RunMetrics,
        error: str | None = None,
        paths: tuple[str, str | None] | None = None,
        events: Iterable[DecodeEvent] = (),
    ) -> None:
        """Record how a run ended.

        Args:
            run_id: from `start_run`.
            reason: how it ended.
            output: all text.
            token_ids: all output tokens.
            metrics: its figures.
            error: what failed, as the user is told.
            paths: how target and drafter decoded in the end; None leaves what `start_run` wrote.
            events: all of it, for `run_events`; their text is not kept twice.
        """
        row = progress_row(output, tuple(token_ids)) | finish_row(reason, metrics, error)
        if paths is not None:
            row["path"], row["drafter_path"] = paths
        packed = encode_events(events)  # before the lock: a long run takes a tenth of a second
        with self._transaction():
            self._update(run_id, row)
            if packed is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO run_events VALUES (?, ?)", [run_id, packed]
                )
            take_replies(self._db)

    def list_runs(
        self, filters: RunFilter = ALL_RUNS, *, limit: int = 100, offset: int = 0
    ) -> list[RunRecord]:
        """List runs, newest first; a row that cannot be read is left out and told on stderr.

        Args:
            filters: which runs.
            limit: most runs to return.
            offset: runs to skip.
        """
        where, values = filters.where()
        with self._lock, store_errors(self.path):
            rows = self._db.table("runs").rows_where(
                where, values, order_by="id desc", limit=limit, offset=offset
            )
            return list(readable(rows))

    def count_runs(self, filters: RunFilter = ALL_RUNS) -> int:
        """Count the runs that `list_runs` would give without a limit."""
        where, values = filters.where()
        with self._lock, store_errors(self.path):
            return int(self._db.table("runs").count_where(where, values))

    def get_run(self, run_id: int, owner: str | None = None) -> RunRecord | None:
        """One run, or None where there is none with this id, or none of this owner's."""
        where, values = RunFilter(owner=owner).where()
        with self._lock, store_errors(self.path):
            found = self._db.table("runs").rows_where(
                f"id = :id AND {where}", {"id": run_id, **values}
            )
            row = next(found, None)
            return None if row is None else read_record(row)

    def run_events(self, run_id: int) -> list[DecodeEvent] | None:
        """A run's events without its text, times to the microsecond.

        Returns:
            None where none were kept: no such run, one that goes on or died, or one from before
            events were kept.

        Raises:
            StoreCorrupt: they are damaged.
        """
        with self._lock, store_errors(self.path):
            row = next(self._db.table("run_events").rows_where("run_id = ?", [run_id]), None)
        if row is None:
            return None
        try:
            return decode_events(row["events"])
        except StoreCorrupt as error:
            raise StoreCorrupt(
                f"The steps of run {run_id} cannot be shown: {error}; the rest of the run is whole."
            ) from error

    def delete_runs(self, run_ids: Sequence[int], owner: str | None = None) -> int:
        """Delete runs that have ended, damaged ones too; one that goes on is kept.

        Args:
            run_ids: which.
            owner: spare those of others; None spares nobody's.

        Returns:
            How many were deleted.
        """
        deleted = 0
        where, values = RunFilter(owner=owner).where()
        with self._transaction():
            take_replies(self._db)
            for run_id in run_ids:
                gone = self._db.execute(
                    f"DELETE FROM runs WHERE id = :id AND finish_reason IS NOT NULL AND {where}",  # noqa: S608
                    {"id": run_id, **values},
                ).rowcount
                if gone:
                    self._db.execute("DELETE FROM run_events WHERE run_id = ?", [run_id])
                deleted += gone
        return deleted

    def expire(self, before: datetime) -> tuple[int, int]:
        """Delete what is old: runs that have ended, and conversations with their messages.

        Runs of benchmarks stay with them; those of a public page's visitors go. Replies stay whose
        conversation went on since.

        Args:
            before: of a run when it began, of a conversation when its last message came; with its
                zone.

        Returns:
            (runs deleted, conversations deleted).
        """
        self.benchmarks.expire(before)
        with self._transaction():
            take_replies(self._db)
            old = "started_at < :before AND finish_reason IS NOT NULL AND source != 'benchmark'"
            num_runs = self._db.execute(
                f"DELETE FROM runs WHERE {old}",  # noqa: S608
                {"before": time_text(before)},
            ).rowcount
            self._db.execute("DELETE FROM run_events WHERE run_id NOT IN (SELECT id FROM runs)")
            return num_runs, expire_chats(self._db, before)

    def mark_interrupted(self) -> int:
        """Mark unfinished runs whose process is gone; done at every opening.

        Returns:
            How many were marked.
        """
        with self._transaction():
            return self._mark_interrupted()

    def _prepare(self) -> None:
        with store_errors(self.path):
            schema_version(self._db)  # refuses a file that is not ours before anything is written
            use_wal(self._db)
        with self._transaction():
            migrate(self._db)
            if self.path is not None:
                self._lease = Lease(self.path)
            self._mark_interrupted()

    def _mark_interrupted(self) -> int:
        if self.path is None:
            return 0
        leases = self._db.execute("SELECT DISTINCT lease FROM runs WHERE finish_reason IS NULL")
        marked = 0
        for (lease,) in leases.fetchall():
            if lease is None or not self._is_alive(lease):
                marked += self._db.execute(
                    "UPDATE runs SET finish_reason = 'interrupted' "
                    "WHERE finish_reason IS NULL AND lease IS ?",
                    [lease],
                ).rowcount
        if marked:
            take_replies(self._db)
        return marked

    def _lease_name(self) -> str | None:
        return self._lease.name if self._lease else None

    def _is_alive(self, lease: str) -> bool:
        return self.path is not None and is_alive(self.path, lease)

    def _update(self, run_id: int, row: dict[str, Any]) -> None:
        """Change a run's row; call inside a transaction."""
        try:
            self._db.table("runs").update(run_id, row)
        except NotFoundError as error:
            raise StoreError(
                f"Run {run_id} is no longer in the run database {self.path}: another program "
                "deleted it while it ran."
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, store_errors(self.path):
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Hold the write lock from the start: a read that later writes could not wait for it."""
        with self._lock, store_errors(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._db.rollback()
                raise
