"""The run log as a table: pages in any order, what can be chosen from, what has ended."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import sqlite_utils

from dflash_app.errors import StoreCorrupt
from dflash_app.store.records import RunFilter, RunRecord, read_record

ORDERS = {
    "started": "id",
    "pair": "pair",
    "mode": "mode",
    "speed": "decode_tok_s",
    "acceptance": "mean_acceptance_length",
    "tokens": "num_output_tokens",
    "end": "finish_reason",
}
"""Column of each order; all but the first stand in the index `runs_overview`."""

CHOICES = ("pair", "backend", "source", "task")
"""Columns whose values a filter offers."""

ALL_RUNS = RunFilter()

_BATCH = 500
"""Runs read at once: whole ones of long conversations are large."""

_log = logging.getLogger(__name__)

Guard = Callable[[], AbstractContextManager[None]]


class Overview:
    """What `Store.overview` is. Filters look at the index; only a page's own rows are read whole.

    Measured on 100,000 runs (660 MB, two cores): a page in any order 5 to 40 ms, a count 1 to 7 ms;
    with a text, for which every row is read, 200 to 600 ms each.
    """

    def __init__(self, db: sqlite_utils.Database, reading: Guard) -> None:
        self._db = db
        self._reading = reading

    def page(
        self,
        filters: RunFilter,
        *,
        order: str = "started",
        descending: bool = True,
        limit: int = 50,
        offset: int = 0,
    ) -> list[RunRecord]:
        """Runs in an order, unknown figures last; equal ones newest first.

        Args:
            filters: which runs.
            order: a key of `ORDERS`.
            descending: the largest, or newest, first.
            limit: most runs to return; one that cannot be read is left out and told on stderr.
            offset: runs to skip.

        Raises:
            StoreError: the database cannot be read.
        """
        where, values = filters.where()
        by = f"{ORDERS[order]} {'DESC' if descending else 'ASC'} NULLS LAST, id DESC"
        # "+" takes the index instead of walking down the whole rows until enough of them match.
        walk = "" if filters.text or filters == ALL_RUNS else "+"
        sql = (
            f"SELECT * FROM runs WHERE id IN (SELECT id FROM runs WHERE {where} "  # noqa: S608
            f"ORDER BY {walk}{by} LIMIT :limit OFFSET :offset) ORDER BY {by}"
        )
        with self._reading():
            rows = self._db.query(sql, values | {"limit": limit, "offset": offset})
            return list(readable(rows))

    def choices(self, owner: str | None = None) -> dict[str, list[str]]:
        """The values that occur in each column of `CHOICES`, sorted.

        Args:
            owner: in whose runs; None in all.
        """
        where, values = RunFilter(owner=owner).where()
        with self._reading():
            return {column: self._distinct(column, where, values) for column in CHOICES}

    def each(self, filters: RunFilter) -> Iterator[RunRecord]:
        """Every run that a filter names, newest first, read a few hundred at a time."""
        below: int | None = None
        while True:
            where, values = filters.where()
            if below is not None:
                where, values = f"{where} AND id < :below", values | {"below": below}
            sql = f"SELECT * FROM runs WHERE {where} ORDER BY id DESC LIMIT {_BATCH}"  # noqa: S608
            with self._reading():
                rows = list(self._db.query(sql, values))
            yield from readable(rows)
            if len(rows) < _BATCH:
                return
            below = rows[-1]["id"]

    def ended(self, filters: RunFilter) -> tuple[int, ...]:
        """Numbers of the runs that a filter names and that have ended, damaged ones too."""
        where, values = filters.where()
        sql = f"SELECT id FROM runs WHERE {where} AND finish_reason IS NOT NULL"  # noqa: S608
        with self._reading():
            return tuple(run_id for (run_id,) in self._db.execute(sql, values))

    def _distinct(self, column: str, where: str, values: dict[str, Any]) -> list[str]:
        sql = f"SELECT DISTINCT {column} FROM runs WHERE {where}"  # noqa: S608
        return sorted(value for (value,) in self._db.execute(sql, values) if value)


def readable(rows: Iterable[dict[str, Any]]) -> Iterator[RunRecord]:
    """The rows as records: one damaged row must not hide all others."""
    for row in rows:
        try:
            yield read_record(row)
        except StoreCorrupt as error:
            _log.warning("%s; `dflash-app runs delete %s` removes it.", error, row["id"])
