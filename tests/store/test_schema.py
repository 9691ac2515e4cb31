import hashlib
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlite_utils

from dflash_app.errors import StoreTooNew
from dflash_app.store.records import RunStart, start_row
from dflash_app.store.runs import Store
from dflash_app.store.schema import MIGRATIONS, schema_version

FROZEN = [
    "f85bf80acca6ba81",
    "eec6356d00742884",
    "f05b6c3431ced158",
    "579c734eecd65174",
    "c0052e391030b42b",
    "f1da526c34398c87",
    "54650e6524e7f857",
]
"""One hash for each migration that users' databases may have had. Add to it, never change it."""

SINCE_THIRD = ("rollback_kind", "quantization", "drafter_quantization", "trained_block_size")
SINCE_FOURTH = ("path", "drafter_path", "policy")
SINCE_FIFTH = ("owner", "task")


def test_past_migrations_are_never_edited() -> None:
    hashes = [hashlib.sha256("\0".join(each).encode()).hexdigest()[:16] for each in MIGRATIONS]
    assert hashes == FROZEN


def test_opening_records_each_migration_once(database: Path) -> None:
    for _ in range(2):
        Store(database).close()
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT number, applied_at FROM schema_migrations").fetchall()
    assert [number for number, _ in rows] == list(range(1, len(MIGRATIONS) + 1))
    assert all(applied_at.endswith("+00:00") for _, applied_at in rows)


def test_a_new_database_uses_wal(store: Store, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(database).close()
    broken = (*MIGRATIONS, ("CREATE TABLE extra (id INTEGER)", "INSERT INTO nowhere VALUES (1)"))
    monkeypatch.setattr("dflash_app.store.schema.MIGRATIONS", broken)
    with pytest.raises(Exception, match="nowhere"):
        Store(database)
    with closing(sqlite_utils.Database(database)) as db:
        assert schema_version(db) == len(MIGRATIONS)
        assert "extra" not in db.table_names()


def test_an_older_database_gets_only_what_it_lacks(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(database).close()
    newer = (*MIGRATIONS, ("CREATE TABLE extra (id INTEGER)",))
    monkeypatch.setattr("dflash_app.store.schema.MIGRATIONS", newer)
    Store(database).close()
    with closing(sqlite_utils.Database(database)) as db:
        assert schema_version(db) == len(newer)
        assert "extra" in db.table_names()


def test_runs_of_the_first_format_read_as_what_they_were(
    database: Path, start: RunStart, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as past:
        past.setattr("dflash_app.store.schema.MIGRATIONS", MIGRATIONS[:1])
        Store(database).close()
    row = start_row(start)
    for later in ("min_p", "repetition_penalty", *SINCE_THIRD, *SINCE_FOURTH, *SINCE_FIFTH):
        del row[later]
    with closing(sqlite_utils.Database(database)) as db:
        db.table("runs").insert(row)
    with Store(database) as store:
        (record,) = store.list_runs()
    unknown = dict.fromkeys((*SINCE_THIRD, *SINCE_FOURTH, *SINCE_FIFTH))
    assert record.start == replace(start, min_p=0.0, repetition_penalty=1.0, **unknown)
    assert record.metrics.num_reused_tokens is None
    assert record.metrics.acceptance_source is None
    assert (record.metrics.at_client, record.metrics.acceptance_shared) == (False, False)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(database: Path) -> None:
    Store(database).close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (99, '2030-01-01')")
        connection.commit()
    before = database.read_bytes()
    with pytest.raises(StoreTooNew, match=r"runs\.db was written by a newer version.*update"):
        Store(database)
    assert database.read_bytes() == before
