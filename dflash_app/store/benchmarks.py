"""Benchmarks: what each measures, its questions, and which run answered which."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, cast

import sqlite_utils

import dflash_app
from dflash_app.errors import StoreError
from dflash_app.store.benchmark_records import (
    ENDED_WELL,
    Answer,
    Asked,
    BenchmarkRecord,
    Measured,
    read_answer,
    read_benchmark,
)
from dflash_app.store.fingerprint import hardware_fingerprint, library_versions
from dflash_app.store.records import time_text

_RUNS = """
    SELECT {columns}, '[]' AS token_ids, cell, question_id, repetition, turn, share, began_at, score
    FROM benchmark_runs JOIN runs ON runs.id = benchmark_runs.run_id
    WHERE benchmark_id = ? ORDER BY runs.id
"""
_MEASURED = f"""
    SELECT cell, question_id, repetition, turn, decode_tok_s, mean_acceptance_length
    FROM benchmark_runs JOIN runs ON runs.id = benchmark_runs.run_id
    WHERE benchmark_id = ? AND {ENDED_WELL} ORDER BY runs.id
"""  # noqa: S608
_OWN_RUNS = "SELECT run_id FROM benchmark_runs WHERE benchmark_id = ?"
_DELETE = (
    f"DELETE FROM run_events WHERE run_id IN ({_OWN_RUNS})",  # noqa: S608
    f"DELETE FROM runs WHERE id IN ({_OWN_RUNS})",  # noqa: S608
    "DELETE FROM benchmark_runs WHERE benchmark_id = ?",
    "DELETE FROM benchmark_questions WHERE benchmark_id = ?",
    "DELETE FROM benchmarks WHERE id = ?",
)
_FORGET_UNANSWERED = f"""
    DELETE FROM benchmark_runs WHERE benchmark_id = ?
        AND run_id NOT IN (SELECT id FROM runs WHERE {ENDED_WELL})
"""  # noqa: S608


class Benchmarks:
    """The benchmarks of a `Store`, which makes it; any thread may call it. Errors are the store's.

    Several processes may work on one benchmark, each on a share of its questions.
    """

    def __init__(
        self,
        db: sqlite_utils.Database,
        reading: Callable[[], AbstractContextManager[None]],
        writing: Callable[[], AbstractContextManager[None]],
        lease: Callable[[], str | None],
        is_alive: Callable[[str], bool],
    ) -> None:
        """Work on the store's connection.

        Args:
            db: the connection.
            reading: holds its lock.
            writing: holds its lock and a transaction.
            lease: this process's, None in memory.
            is_alive: whether the process that holds a lease lives.
        """
        self._db = db
        self._reading, self._writing = reading, writing
        self._lease, self._is_alive = lease, is_alive

    def create(
        self,
        plan: Mapping[str, Any],
        questions: Mapping[str, Sequence[Mapping[str, Any]]],
        owner: str | None = None,
    ) -> int:
        """Write down a benchmark before its first question, and the texts of all questions.

        Args:
            plan: as JSON.
            questions: by data set, each as JSON with an "id" that is unique there and its "turns".
            owner: the visitor of a public page whose it is; None: this machine's own.

        Returns:
            Its id.
        """
        with self._writing():
            row = {
                "plan": json.dumps(plan),
                "hardware": json.dumps(hardware_fingerprint()),
                "library_versions": json.dumps(library_versions()),
                "app_version": dflash_app.__version__,
                "owner": owner,
                "created_at": _now(),
            }
            benchmark_id = cast(int, self._db.table("benchmarks").insert(row, pk="id").last_pk)
            self._db.table("benchmark_questions").insert_all(
                {
                    "benchmark_id": benchmark_id,
                    "dataset": dataset,
                    "position": position,
                    "question": json.dumps(question),
                }
                for dataset, asked in questions.items()
                for position, question in enumerate(asked)
            )
        return benchmark_id

    def get(self, benchmark_id: int, owner: str | None = None) -> BenchmarkRecord:
        """One benchmark.

        Args:
            benchmark_id: from `create`.
            owner: hide those of others; None hides nobody's.

        Raises:
            StoreError: there is none with this id.
        """
        where, values = _owned("id = ?", [benchmark_id], owner)
        with self._reading():
            for record in self._read(where, values):
                return record
        raise StoreError(
            f"There is no benchmark {benchmark_id}: `dflash-app benchmark --ls` shows their "
            "numbers."
        )

    def latest(
        self, *, unfinished: bool = False, limit: int = 20, owner: str | None = None
    ) -> list[BenchmarkRecord]:
        """Benchmarks, the newest first.

        Args:
            unfinished: only those that have prompts left.
            limit: most to return.
            owner: hide those of others; None hides nobody's.
        """
        where, values = _owned("finished_at IS NULL" if unfinished else "1", [], owner)
        with self._reading():
            return list(self._read(where, values, limit))

    def questions(self, benchmark_id: int) -> dict[str, list[dict[str, Any]]]:
        """The questions of a benchmark by data set, in their order, as they were created."""
        found: dict[str, list[dict[str, Any]]] = {}
        with self._reading():
            rows = self._db.table("benchmark_questions").rows_where(
                "benchmark_id = ?", [benchmark_id], order_by="dataset, position"
            )
            for row in rows:
                found.setdefault(row["dataset"], []).append(json.loads(row["question"]))
        return found

    def begin(self, benchmark_id: int, launch: str, num_shares: int = 1) -> None:
        """Take a benchmark up, first or again: what did not end by itself will be asked again.

        Args:
            benchmark_id: from `create`.
            launch: tells the processes that work on it together from all others.
            num_shares: how many they are.

        Raises:
            StoreError: there is none with this id, or another process works on it.
        """
        with self._writing():
            if self.get(benchmark_id).running:
                raise StoreError(f"Benchmark {benchmark_id} is going on already: stop it first.")
            self._db.execute(_FORGET_UNANSWERED, [benchmark_id])
            taken = {"lease": self._lease(), "launch": launch, "shares_left": num_shares}
            self._db.table("benchmarks").update(benchmark_id, taken | {"finished_at": None})

    def begun_by(self, launch: str) -> int | None:
        """The benchmark that a launch works on; None where it has not begun one yet."""
        with self._reading():
            found = self._db.execute(
                "SELECT id FROM benchmarks WHERE launch = ? AND shares_left > 0", [launch]
            ).fetchone()
        return None if found is None else int(found[0])

    def end_share(self, benchmark_id: int) -> bool:
        """Tell that one process has asked all of its questions.

        Returns:
            Whether it was the last one, which finishes the benchmark.
        """
        with self._writing():
            self._db.execute(
                "UPDATE benchmarks SET shares_left = shares_left - 1 WHERE id = ?", [benchmark_id]
            )
            return bool(
                self._db.execute(
                    "UPDATE benchmarks SET finished_at = ?, lease = NULL, launch = NULL "
                    "WHERE id = ? AND shares_left = 0",
                    [_now(), benchmark_id],
                ).rowcount
            )

    def leave(self, benchmark_id: int) -> None:
        """Tell that nobody works on a benchmark that is not finished."""
        with self._writing():
            self._db.execute(
                "UPDATE benchmarks SET lease = NULL, launch = NULL WHERE id = ?", [benchmark_id]
            )

    def forget_empty(self, benchmark_id: int) -> None:
        """Delete a benchmark unless it has asked something."""
        with self._writing():
            gone = self._db.execute(
                "DELETE FROM benchmarks WHERE id = :id AND NOT EXISTS "
                "(SELECT 1 FROM benchmark_runs WHERE benchmark_id = :id)",
                {"id": benchmark_id},
            ).rowcount
            if gone:
                self._db.execute(
                    "DELETE FROM benchmark_questions WHERE benchmark_id = ?", [benchmark_id]
                )

    def delete(self, benchmark_id: int) -> None:
        """Delete a benchmark with its questions and its runs.

        Raises:
            StoreError: there is none with this id, or a process works on it.
        """
        with self._writing():
            if self.get(benchmark_id).running:
                raise StoreError(f"Benchmark {benchmark_id} is going on: stop it first.")
            for statement in _DELETE:
                self._db.execute(statement, [benchmark_id])

    def expire(self, before: datetime) -> int:
        """Delete visitors' benchmarks that nobody works on and that began before a time.

        Returns:
            How many were deleted.
        """
        with self._writing():
            old = list(self._read("owner IS NOT NULL AND created_at < ?", [time_text(before)]))
            gone = [each.id for each in old if not each.running]
            for benchmark_id in gone:
                for statement in _DELETE:
                    self._db.execute(statement, [benchmark_id])
        return len(gone)

    def add_run(
        self, benchmark_id: int, asked: Asked, run_id: int, began_at: float, share: int = 0
    ) -> None:
        """Link a run that begins to its prompt; it replaces one that did not end by itself.

        Args:
            benchmark_id: from `create`.
            asked: the prompt.
            run_id: from `Store.start_run`.
            began_at: when decoding begins, seconds since 1970.
            share: which of the processes that work on the benchmark asks, counts from 0.
        """
        row = _key(benchmark_id, asked) | {"run_id": run_id, "began_at": began_at, "share": share}
        with self._writing():
            self._db.table("benchmark_runs").insert(row, replace=True)

    def save_score(self, benchmark_id: int, asked: Asked, score: float) -> None:
        """Keep whether an answer was right."""
        key = _key(benchmark_id, asked)
        where = " AND ".join(f"{name} = :{name}" for name in key)
        with self._writing():
            self._db.execute(
                f"UPDATE benchmark_runs SET score = :score WHERE {where}",  # noqa: S608
                key | {"score": score},
            )

    def answers(self, benchmark_id: int) -> list[Answer]:
        """All runs of a benchmark that are still in the run log, in the order they began."""
        with self._reading():
            names = [each.name for each in self._db.table("runs").columns]
            columns = ", ".join(f"runs.{name}" for name in names if name != "token_ids")
            rows = list(self._db.query(_RUNS.format(columns=columns), [benchmark_id]))
        return [read_answer(row) for row in rows]

    def measured(self, benchmark_id: int) -> list[Measured]:
        """Figures of every prompt that is answered, in the order of their runs; reads no text."""
        with self._reading():
            rows = self._db.execute(_MEASURED, [benchmark_id]).fetchall()
        return [Measured(Asked(*row[:4]), *row[4:]) for row in rows]

    def _read(
        self, where: str, values: Sequence[Any], limit: int | None = None
    ) -> Iterator[BenchmarkRecord]:
        rows = list(
            self._db.table("benchmarks").rows_where(where, values, order_by="id DESC", limit=limit)
        )
        for row in rows:
            yield self._record(row)

    def _record(self, row: Mapping[str, Any]) -> BenchmarkRecord:
        counted = self._db.execute(
            "SELECT dataset, count(*), sum(json_array_length(question, '$.turns')) "
            "FROM benchmark_questions WHERE benchmark_id = ? GROUP BY dataset",
            [row["id"]],
        ).fetchall()
        answered = self._db.execute(
            "SELECT count(*) FROM benchmark_runs JOIN runs ON runs.id = run_id "  # noqa: S608
            f"WHERE benchmark_id = ? AND {ENDED_WELL}",
            [row["id"]],
        ).fetchone()
        running = row["lease"] is not None and self._is_alive(row["lease"])
        return read_benchmark(row, counted, int(answered[0]), running=running)


def _key(benchmark_id: int, asked: Asked) -> dict[str, Any]:
    return {
        "benchmark_id": benchmark_id,
        "cell": asked.cell,
        "question_id": asked.question_id,
        "repetition": asked.repetition,
        "turn": asked.turn,
    }


def _owned(where: str, values: list[Any], owner: str | None) -> tuple[str, list[Any]]:
    """A condition, and for a visitor that it is theirs."""
    return (where, values) if owner is None else (f"{where} AND owner = ?", [*values, owner])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
