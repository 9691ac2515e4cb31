import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dflash_app.errors import StoreCorrupt, StoreError, StoreLocked, StoreReadOnly
from dflash_app.metrics import RunMetrics
from dflash_app.store.connect import connect, store_errors, use_wal
from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store


@contextmanager
def write_locked(database: Path) -> Iterator[None]:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.rollback()


def test_a_database_that_another_program_holds_is_named_as_locked(database: Path) -> None:
    Store(database).close()
    with write_locked(database), pytest.raises(StoreLocked, match=r"runs\.db is locked.*close it"):
        Store(database, busy_timeout_s=0.05)
    Store(database).close()


def test_a_new_file_that_another_program_holds_is_named_as_locked(tmp_path: Path) -> None:
    with write_locked(tmp_path / "runs.db"), pytest.raises(StoreLocked):
        Store(tmp_path / "runs.db", busy_timeout_s=0.05)


def test_a_lock_that_comes_later_stops_writing_but_not_reading(
    database: Path, start: RunStart
) -> None:
    with Store(database, busy_timeout_s=0.05) as store:
        run_id = store.start_run(start)
        with write_locked(database):
            assert [record.id for record in store.list_runs()] == [run_id]
            with pytest.raises(StoreLocked):
                store.finish_run(run_id, "stop", output="", token_ids=[], metrics=RunMetrics())
        store.finish_run(run_id, "stop", output="9", token_ids=[], metrics=RunMetrics())
        assert store.list_runs()[0].output == "9"


def test_a_lock_that_is_let_go_in_time_is_waited_for(database: Path, start: RunStart) -> None:
    with (
        Store(database, busy_timeout_s=5.0) as store,
        closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(0.2, other.rollback)
        timer.start()
        assert store.start_run(start) > 0
        timer.join()


def test_a_folder_in_the_file_s_place_is_named_as_not_writable(tmp_path: Path) -> None:
    (tmp_path / "runs.db").mkdir()
    with pytest.raises(StoreReadOnly, match=r"runs\.db cannot be written.*DFLASH_APP_HOME"):
        Store(tmp_path / "runs.db")


def test_a_file_in_the_folder_s_place_is_named_as_not_writable(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder")
    with pytest.raises(StoreReadOnly, match="cannot be written"):
        Store(tmp_path / "home" / "runs.db")


def test_writing_a_read_only_database_is_named_so(database: Path) -> None:
    Store(database).close()
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection,
        pytest.raises(StoreReadOnly, match="readonly database"),
        store_errors(database),
    ):
        connection.execute("DELETE FROM runs")


def test_a_full_disk_is_named_so(database: Path) -> None:
    Store(database).close()
    with (
        closing(sqlite3.connect(database)) as connection,
        pytest.raises(StoreError, match=r"disk of the run database .* is full"),
        store_errors(database),
    ):
        connection.execute("PRAGMA max_page_count=1")
        connection.execute("CREATE TABLE more AS SELECT zeroblob(100000)")


@pytest.mark.parametrize(
    "content", [b"this is no database, only text " * 200, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=r"runs\.db cannot be read.*move it away"):
        Store(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_page_is_named_when_it_is_met(database: Path, start: RunStart) -> None:
    with Store(database) as store:
        for _ in range(50):
            run_id = store.start_run(start)
            store.finish_run(run_id, "stop", output="x" * 500, token_ids=[], metrics=RunMetrics())
    content = bytearray(database.read_bytes())
    page_size = int.from_bytes(content[16:18], "big")
    for page in range(4, len(content) // page_size):
        content[page * page_size : page * page_size + 64] = b"\xff" * 64
    database.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="move it away"), Store(database) as damaged:
        damaged.list_runs()


def test_a_row_that_cannot_be_read_is_named_and_can_be_deleted(
    database: Path, start: RunStart, caplog: pytest.LogCaptureFixture
) -> None:
    with Store(database) as store:
        for _ in range(2):
            run_id = store.start_run(start)
            store.finish_run(run_id, "stop", output="", token_ids=[], metrics=RunMetrics())
        with closing(sqlite3.connect(database)) as other:
            other.execute("UPDATE runs SET messages = 'not json' WHERE id = 1")
            other.commit()
        with pytest.raises(StoreCorrupt, match="run 1 is damaged"):
            store.get_run(1)
        assert [record.id for record in store.list_runs()] == [2]
        assert "`dflash-app runs delete 1` removes it" in caplog.text
        assert store.delete_runs([1]) == 1


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match=r"another program.*bookmarks"):
        Store(path)
    assert path.read_bytes() == before


def test_a_closed_store_says_so_instead_of_a_traceback_of_sqlite(database: Path) -> None:
    store = Store(database)
    store.close()
    with pytest.raises(StoreError, match="closed database"):
        store.list_runs()


def test_many_may_open_a_new_database_at_once(database: Path) -> None:
    ready = threading.Barrier(8)
    failures: list[StoreError] = []

    def open_store() -> None:
        ready.wait()
        try:
            Store(database).close()
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=open_store) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_switch_to_wal_that_is_refused_is_left_to_the_next_opening(database: Path) -> None:
    Store(database).close()
    with (
        closing(sqlite3.connect(database, isolation_level=None)) as reader,
        closing(connect(database, busy_timeout_s=0.05)) as db,
    ):
        reader.execute("PRAGMA journal_mode=delete")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchone()
        use_wal(db)
        assert db.journal_mode == "delete"
        reader.execute("COMMIT")
        use_wal(db)
        assert db.journal_mode == "wal"
