"""A public page forgets what is old, at its start and daily."""

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from dflash_app.errors import StoreLocked
from dflash_app.metrics import RunMetrics
from dflash_app.settings import Settings
from dflash_app.spaces.retention import Retention
from dflash_app.store.benchmark_records import Asked
from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store

NOW = datetime.now(UTC)


def add_run(store: Store, age_days: float, source: str = "chat", *, ended: bool = True) -> int:
    asked = ({"role": "user", "content": "hello"},)
    began = NOW - timedelta(days=age_days)
    run_id = store.start_run(
        RunStart(source, "embedded", "torch", "cpu", "float32", "ar", asked, started_at=began)
    )
    if ended:
        store.finish_run(run_id, "stop", output="hi", token_ids=[1], metrics=RunMetrics())
    return run_id


def add_chat(store: Store, *ages_days: float) -> str:
    chat_id = store.chats.create("visitor-a")
    for number, age in enumerate(ages_days):
        asked_at = store.chats.begin_reply(
            chat_id, "visitor-a", 2 * number, "hello", asked_at=NOW - timedelta(days=age)
        )
        assert asked_at is not None
        store.chats.link_run(chat_id, add_run(store, age), asked_at)
        store.finish_run(number + 1, "stop", output="hi", token_ids=[], metrics=RunMetrics())
    return chat_id


def test_what_is_older_goes_and_a_conversation_that_went_on_stays_whole(
    settings: Settings,
) -> None:
    with Store(settings.database) as store:
        lively = add_chat(store, 40, 2)
        still = add_chat(store, 40)
        kept = [add_run(store, 29), add_run(store, 40, "benchmark")]
        kept.append(add_run(store, 40, ended=False))
        add_run(store, 31)
        assert store.expire(NOW - timedelta(days=30)) == (3, 1)
        assert store.chats.load(still, "visitor-a") is None
        chat = store.chats.load(lively, "visitor-a")
        assert chat is not None
        assert [turn.role for turn in chat.turns] == ["user", "assistant"] * 2
        left = {run.id for run in store.list_runs()}
        assert left == {*kept, chat.turns[3].run_id}
    with closing(sqlite3.connect(settings.database)) as db:
        assert db.execute("SELECT count(*) FROM turns").fetchone() == (4,)


def test_a_visitors_benchmark_goes_with_its_runs_and_this_machines_stays(
    settings: Settings,
) -> None:
    questions = {"set": [{"id": "a", "turns": ["One?"]}]}
    with Store(settings.database) as store:
        for owner in ("visitor-a", None):
            number = store.benchmarks.create({}, questions, owner)
            run_id = add_run(store, 0, "benchmark")
            store.benchmarks.add_run(number, Asked("set/ar/1", "a", 0, 0), run_id, 0.0)
        store.expire(NOW - timedelta(days=1))
        assert len(store.benchmarks.latest()) == 2
        working = store.benchmarks.create({}, questions, "visitor-b")
        store.benchmarks.begin(working, "launch")
        store.expire(NOW + timedelta(days=1))
        left = store.benchmarks.latest()
        assert [(each.id, each.owner) for each in left] == [(working, "visitor-b"), (number, None)]
        assert [run.id for run in store.list_runs()] == [run_id]


def test_it_is_done_at_the_start_and_again_after_a_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expire, failures = Store.expire, iter([True])

    def locked_at_first(store: Store, before: datetime) -> tuple[int, int]:
        if next(failures, False):
            raise StoreLocked("The run database is locked.")
        return expire(store, before)

    monkeypatch.setattr(Store, "expire", locked_at_first)
    with Store(settings.database) as store:
        add_run(store, 2)
        retention = Retention(store, 1, interval_s=0.01)
        retention.start()
        while store.count_runs():
            time.sleep(0.01)
        retention.close()
    assert caplog.messages == ["The run database is locked."]


def test_an_app_that_keeps_nothing_old_needs_no_thread_to_close(settings: Settings) -> None:
    with Store(settings.database) as store:
        Retention(store, 30).close()
