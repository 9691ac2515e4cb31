"""The run log as a table: orders, pages, choices, batches, what has ended."""

from dataclasses import replace
from pathlib import Path

import pytest

from dflash_app.metrics import RunMetrics
from dflash_app.store import overview
from dflash_app.store.records import MAX_TEXT_CHARS, RunFilter, RunStart
from dflash_app.store.runs import Store

ALL = RunFilter()


def add(store: Store, start: RunStart, speed: float | None, **changes: object) -> int:
    run_id = store.start_run(replace(start, **changes))  # type: ignore[arg-type]
    metrics = RunMetrics(decode_tok_s=speed)
    store.finish_run(run_id, "stop", output="", token_ids=[], metrics=metrics)
    return run_id


def ids(store: Store, filters: RunFilter = ALL, **how: object) -> list[int]:
    return [run.id for run in store.overview.page(filters, **how)]  # type: ignore[arg-type]


@pytest.fixture
def filled(store: Store, start: RunStart) -> Store:
    for speed in (20.0, None, 30.0, 20.0):
        add(store, start, speed)
    return store


def test_unknown_figures_come_last_and_equal_ones_newest_first(filled: Store) -> None:
    assert ids(filled) == [4, 3, 2, 1]
    assert ids(filled, order="speed") == [3, 4, 1, 2]
    assert ids(filled, order="speed", descending=False) == [4, 1, 3, 2]
    assert ids(filled, descending=False) == [1, 2, 3, 4]


def test_every_order_gives_every_run(filled: Store) -> None:
    for order in overview.ORDERS:
        assert sorted(ids(filled, order=order)) == [1, 2, 3, 4]


def test_pages_follow_each_other(filled: Store) -> None:
    pages = [ids(filled, order="speed", limit=3, offset=offset) for offset in (0, 3, 6)]
    assert pages == [[3, 4, 1], [2], []]


def test_pages_counts_and_orders_are_read_from_the_index_alone(filled: Store) -> None:
    where, values = RunFilter(pair="embedded", mode="dflash").where()
    for sql in (
        f"SELECT count(*) FROM runs WHERE {where}",
        f"SELECT id FROM runs WHERE {where} ORDER BY decode_tok_s DESC NULLS LAST, id DESC",
        f"SELECT id FROM runs WHERE {where} ORDER BY +id DESC",
    ):
        plan = filled._db.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
        assert "COVERING INDEX runs_overview" in plan[0][3]


def test_choices_are_what_occurs_in_the_owners_runs(store: Store, start: RunStart) -> None:
    add(store, start, None, owner="a", pair="p", task=None)
    add(store, start, None, owner="b", pair="q", task="GSM8K")
    assert store.overview.choices()["pair"] == ["p", "q"]
    assert store.overview.choices("a") == {
        "pair": ["p"], "backend": ["torch"], "source": ["chat"], "task": [],
    }  # fmt: skip


def test_each_reads_every_run_once_in_batches(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in (1, 2, 4, 5):
        monkeypatch.setattr(overview, "_BATCH", batch)
        assert [run.id for run in filled.overview.each(ALL)] == [4, 3, 2, 1]
    monkeypatch.setattr(overview, "_BATCH", 2)
    reading = filled.overview.each(ALL)
    assert next(reading).id == 4
    filled.delete_runs([1, 2])
    assert [run.id for run in reading] == [3]


def test_runs_that_have_ended_are_named_by_filter_damaged_ones_too(
    filled: Store, start: RunStart
) -> None:
    filled.start_run(start)
    other = add(filled, start, None, pair="other")
    filled._db.execute("UPDATE runs SET token_ids = '{' WHERE id = 3")
    assert sorted(filled.overview.ended(ALL)) == [1, 2, 3, 4, other]
    assert filled.overview.ended(RunFilter(pair="other")) == (other,)
    assert filled.overview.ended(RunFilter(pair="nobody's")) == ()


def test_deletion_takes_the_steps_along(store: Store, start: RunStart) -> None:
    from tests.fakes import script_of

    run_id = store.start_run(start)
    store.finish_run(
        run_id, "stop", output="", token_ids=[], metrics=RunMetrics(), events=script_of((2,))
    )  # type: ignore[arg-type]
    assert store.run_events(run_id)
    store.delete_runs([run_id])
    assert store._db.execute("SELECT count(*) FROM run_events").fetchone() == (0,)


def test_a_damaged_row_hides_no_other(filled: Store) -> None:
    filled._db.execute("UPDATE runs SET token_ids = '{' WHERE id = 3")
    assert ids(filled) == [4, 2, 1]
    assert [run.id for run in filled.overview.each(ALL)] == [4, 2, 1]


def test_a_text_means_itself_however_long(store: Store, start: RunStart) -> None:
    def said(text: str) -> dict[str, object]:
        return {"messages": ({"role": "user", "content": text},)}

    plain = add(store, start, None, **said("axb a\\b"))
    signs = add(store, start, None, **said("a_b 100% A\\%B"))
    long = add(store, start, None, **said("%" * 400_000))
    assert ids(store, RunFilter(text="a_b")) == [signs]
    assert ids(store, RunFilter(text="100%")) == [signs]
    assert ids(store, RunFilter(text="a\\%b")) == [signs]
    assert ids(store, RunFilter(text="A\\B")) == [plain]
    assert ids(store, RunFilter(text="%" * MAX_TEXT_CHARS)) == [long]
    assert ids(store, RunFilter(text="😀" * 300_000)) == []


def test_the_page_of_a_file_store_is_the_same_after_opening_again(
    database: Path, start: RunStart
) -> None:
    with Store(database) as store:
        add(store, start, 1.0, task="GSM8K")
    with Store(database) as store:
        assert ids(store, RunFilter(task="GSM8K", backend="torch")) == [1]
