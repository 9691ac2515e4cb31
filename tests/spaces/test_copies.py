"""The log outlives the disk: whole copies go to a folder, and a new start begins with the last."""

import shutil
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dflash_app.errors import StoreError
from dflash_app.settings import Settings
from dflash_app.spaces.copies import Copies, open_store, restore
from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store

START = RunStart("api", "embedded", "torch", "cpu", "float32", "ar", ({"role": "user"},))


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    folder = tmp_path / "bucket"
    folder.mkdir()
    return folder


def start_run(store: Store) -> int:
    return store.start_run(
        replace(START, messages=({"role": "user", "content": "hello"},), owner="visitor-a")
    )


def test_a_lost_disk_loses_nothing_that_was_copied(
    settings: Settings, home: Path, bucket: Path
) -> None:
    kept = replace(settings, bucket=bucket)
    store, problem = open_store(kept)
    assert problem is None
    start_run(store)
    assert Copies(kept.database, bucket).copy_now()  # while the log is open and in its WAL
    store.close()
    shutil.rmtree(home)
    again, problem = open_store(kept)
    assert problem is None
    (run,) = again.list_runs()
    assert (run.start.owner, run.finish_reason) == ("visitor-a", "interrupted")
    again.close()
    assert [path.name for path in bucket.iterdir()] == ["runs.db"]
    for path in (bucket / "runs.db", kept.database):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600  # visitors' messages are in it


def test_what_a_killed_copy_left_is_replaced_and_read_by_nobody_else(
    settings: Settings, bucket: Path
) -> None:
    (bucket / "runs.db.part").write_text("half")
    with Store(settings.database):
        Copies(settings.database, bucket).copy_now()
    assert stat.S_IMODE((bucket / "runs.db").stat().st_mode) == 0o600
    assert not (bucket / "runs.db.part").exists()


def test_the_log_on_the_disk_is_newer_than_any_copy(settings: Settings, bucket: Path) -> None:
    store = Store(settings.database)
    Copies(settings.database, bucket).copy_now()
    start_run(store)
    store.close()
    assert not restore(bucket, settings.database)
    with Store(settings.database) as found:
        assert found.count_runs() == 1


def test_nothing_new_is_not_copied_again(settings: Settings, bucket: Path) -> None:
    copies = Copies(settings.database, bucket)
    with Store(settings.database) as store:
        assert copies.copy_now()
        assert not copies.copy_now()
        start_run(store)
        assert copies.copy_now()


def test_the_thread_copies_and_the_end_copies_once_more(settings: Settings, bucket: Path) -> None:
    copies = Copies(settings.database, bucket, interval_s=0.01)
    with Store(settings.database) as store:
        copies.start()
        while not (bucket / "runs.db").exists():
            time.sleep(0.01)
        start_run(store)
        copies.close()
    with Store(bucket / "runs.db") as copied:
        assert copied.count_runs() == 1


def test_a_bucket_that_is_not_mounted_is_told_and_the_page_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    store, problem = open_store(replace(settings, bucket=tmp_path / "absent"))
    assert "no folder here: mount it" in str(problem)
    assert store.path is None
    store.close()


def test_a_folder_that_cannot_be_written_is_told(settings: Settings, bucket: Path) -> None:
    with Store(settings.database):
        copies = Copies(settings.database, bucket)
        bucket.rmdir()
        with pytest.raises(StoreError, match="make the folder of DFLASH_APP_BUCKET writable"):
            copies.copy_now()
    assert not settings.database.with_name("runs.db-copy").exists()
