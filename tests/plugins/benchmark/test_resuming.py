"""What is taken up again, by whom, and how soon whoever leaves is let go."""

import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from dflash_plugins.benchmark import asking, scoring, side_by_side
from dflash_plugins.benchmark.kept import create, resumable, sit_down
from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.progress import Pace
from dflash_plugins.benchmark.schedule import schedule
from dflash_plugins.benchmark.side_by_side import side_by_side as threads

from dflash_app.errors import PluginError, StoreError
from dflash_app.hookspecs import Question
from tests.plugins.benchmark.conftest import Bench

MINE = Plan(datasets=("mine.jsonl",), warm_up=0)


def test_one_that_goes_on_is_not_the_one_to_resume(bench: Bench, questions: Path) -> None:
    workspace = bench.workspace
    cut, going_on = (create(workspace, MINE, [questions]) for _ in range(2))
    sit_down(workspace, going_on)
    assert resumable(workspace.store, None) == cut
    sit_down(workspace, cut)
    with pytest.raises(StoreError, match=f"Benchmark {going_on} is going on already"):
        resumable(workspace.store, None)


def test_where_grading_fails_nobody_works_on_it(
    bench: Bench, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = bench.workspace
    benchmark_id = create(workspace, MINE, [questions])
    list(sit_down(workspace, benchmark_id).run())
    with sqlite3.connect(workspace.settings.database) as db:
        db.execute("UPDATE benchmark_runs SET score = NULL")  # killed before it was graded
    db.close()
    monkeypatch.setattr(scoring, "_words", lambda text: 1 / 0)
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        sit_down(workspace, benchmark_id)
    assert not workspace.store.benchmarks.get(benchmark_id).running


def test_a_run_that_is_linked_late_was_under_way_when_it_was(
    bench: Bench, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run log is locked when the first run begins, and free when it ends."""
    workspace = bench.workspace
    start_run, locked = workspace.store.start_run, Event()
    times = iter(range(1000))
    clock = SimpleNamespace(time=lambda: float(next(times)), monotonic=time.monotonic)
    monkeypatch.setattr(asking, "time", clock)

    def lock_once(start: object) -> int:
        if not locked.is_set():
            locked.set()
            raise StoreError("The run database is locked.")
        return start_run(start)  # type: ignore[arg-type]

    monkeypatch.setattr(type(workspace.store), "start_run", lambda _, start: lock_once(start))
    benchmark_id = create(workspace, replace(MINE, modes=("ar",)), [questions])
    list(sit_down(workspace, benchmark_id).run())
    began = [each.began_at for each in workspace.store.benchmarks.answers(benchmark_id)]
    # One look at the clock before each run, one more where its row is begun at once.
    assert began == [0.0, 2.0, 4.0, 6.0]


def test_ctrl_c_does_not_wait_for_servers_that_say_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(side_by_side, "GRACE_S", 0.01)
    stop, cut = Event(), Event()
    with (
        pytest.raises(KeyboardInterrupt),
        threads(2, "test", stop.set, cut.set) as start,
    ):
        for _ in range(3):  # one more than there are threads: it never begins
            start(lambda: None if cut.wait(20) else pytest.fail("was waited for"))
        raise KeyboardInterrupt
    assert stop.is_set()
    assert cut.is_set()


def test_the_rest_of_time_follows_the_latest_prompts() -> None:
    asked = {"mine.jsonl": [Question(str(number), ("Well?",)) for number in range(1000)]}
    tasks = [
        each for batch in schedule(replace(MINE, modes=("ar",)), asked) for each in batch.tasks
    ]
    pace = Pace()
    pace.expect((task, 1) for task in tasks)
    for number, task in enumerate(tasks[:900]):
        pace.add(task.cell, 1, 60.0 if number < 600 else 2.0)
    assert pace.left_s() == 100 * 2.0
