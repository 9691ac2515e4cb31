import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store

OTHER_PROCESS = """
import sys
from pathlib import Path
from dflash_app.metrics import RunMetrics
from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store

store = Store(Path(sys.argv[1]))
message = {"role": "user", "content": "hi"}
run_id = store.start_run(RunStart("chat", "tiny", "torch", "cpu", "float32", "ar", (message,)))
store.save_progress(run_id, "so far", [1, 2])
print("started", flush=True)
sys.stdin.readline()
store.finish_run(run_id, "stop", output="whole", token_ids=[1, 2, 3], metrics=RunMetrics())
store.close()
"""


@contextmanager
def other_process(database: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            yield process
        finally:
            process.kill()


def test_a_run_cut_by_a_killed_process_is_found_with_its_text(database: Path) -> None:
    with other_process(database) as process:
        process.kill()
        process.wait()
        with Store(database) as store:
            (record,) = store.list_runs()
            assert record.finish_reason == "interrupted"
            assert (record.output, record.token_ids) == ("so far", (1, 2))
            assert record.finished_at is None
    assert not list(database.parent.glob("*-lease-*"))


def test_a_live_process_keeps_its_runs_while_another_starts(database: Path) -> None:
    with other_process(database) as process:
        with Store(database) as store:
            assert [record.finish_reason for record in store.list_runs()] == [None]
        process.communicate("go on\n")
        assert process.returncode == 0
    with Store(database) as store:
        (record,) = store.list_runs()
        assert (record.finish_reason, record.output) == ("stop", "whole")


def test_a_process_that_dies_later_is_found_without_a_restart(database: Path) -> None:
    with other_process(database) as process, Store(database) as store:
        assert store.mark_interrupted() == 0
        process.kill()
        process.wait()
        assert store.mark_interrupted() == 1
        assert store.list_runs()[0].finish_reason == "interrupted"


def test_two_stores_of_one_process_do_not_cut_each_other_s_runs(
    database: Path, start: RunStart
) -> None:
    with Store(database) as first:
        run_id = first.start_run(start)
        with Store(database) as second:
            record = second.get_run(run_id)
            assert record is not None
            assert record.finish_reason is None
        with Store(database) as third:
            record = third.get_run(run_id)
            assert record is not None
            assert record.finish_reason is None


def test_a_store_does_not_mark_its_own_runs(store: Store, start: RunStart) -> None:
    run_id = store.start_run(start)
    assert store.mark_interrupted() == 0
    record = store.get_run(run_id)
    assert record is not None
    assert record.finish_reason is None


def test_a_copied_database_marks_the_runs_whose_lease_was_left_behind(
    database: Path, tmp_path: Path, start: RunStart
) -> None:
    copy = tmp_path / "copy.db"
    with Store(database) as store:
        store.start_run(start)
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    with Store(copy) as copied:
        assert [record.finish_reason for record in copied.list_runs()] == ["interrupted"]
