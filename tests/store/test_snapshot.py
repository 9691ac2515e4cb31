"""A snapshot is whole while the store goes on writing, and private."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dflash_app.errors import StoreCorrupt, StoreError, StoreReadOnly
from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store
from dflash_app.store.snapshot import write_snapshot


def test_a_snapshot_has_what_stands_in_the_log_beside_the_file(
    store: Store, database: Path, start: RunStart, tmp_path: Path
) -> None:
    store.start_run(start)
    assert Path(f"{database}-wal").stat().st_size > 0
    target = tmp_path / "copy.db"
    num_bytes = write_snapshot(database, target)
    store.start_run(start)
    assert num_bytes == target.stat().st_size > 0
    assert target.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(f"file:{target}?immutable=1", uri=True)) as copy:
        assert copy.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_snapshot_opens_as_a_store(
    store: Store, database: Path, start: RunStart, tmp_path: Path
) -> None:
    store.start_run(start)
    write_snapshot(database, tmp_path / "copy.db")
    with Store(tmp_path / "copy.db") as copy:
        assert copy.count_runs() == 1


def test_what_cannot_be_copied_leaves_no_file(database: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database at all, but long enough to be read as one" * 40)
    with pytest.raises(StoreCorrupt, match="broken"):
        write_snapshot(broken, target)
    with pytest.raises(StoreReadOnly):
        write_snapshot(database, target)
    with pytest.raises(StoreError, match=r"copy\.db cannot be written \(No such file"):
        write_snapshot(broken, tmp_path / "no folder" / "copy.db")
    assert not target.exists()


def test_an_existing_file_is_never_overwritten(
    store: Store, database: Path, tmp_path: Path
) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    with pytest.raises(StoreError, match=r"File exists.*name a file that is not there yet"):
        write_snapshot(database, target)
    assert target.read_text() == "keep"
