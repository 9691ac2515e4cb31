from dataclasses import replace
from pathlib import Path

import pytest

from dflash_app.errors import StoreError
from dflash_app.metrics import RunMetrics
from dflash_app.store.benchmark_records import Asked, Measured
from dflash_app.store.records import RunEnd, RunStart
from dflash_app.store.runs import Store

PLAN = {"pair": "embedded"}
QUESTIONS = {"set": [{"id": "a", "turns": ["One?"]}, {"id": "b", "turns": ["Two?", "Three?"]}]}
FIRST = Asked("set/ar/1", "a", 0, 0)


def add(store: Store, benchmark_id: int, asked: Asked, start: RunStart, end: RunEnd) -> int:
    run_id = store.start_run(start)
    store.benchmarks.add_run(benchmark_id, asked, run_id, 100.0)
    store.finish_run(run_id, end, output="text", token_ids=(1,), metrics=RunMetrics())
    return run_id


def test_a_benchmark_is_kept_with_its_questions(store: Store) -> None:
    benchmark_id = store.benchmarks.create(PLAN, QUESTIONS)
    record = store.benchmarks.get(benchmark_id)
    assert (record.plan, record.num_prompts, record.num_answered) == (PLAN, {"set": 3}, 0)
    assert (record.finished_at, record.running) == (None, False)
    assert record.hardware["cores"]
    assert store.benchmarks.questions(benchmark_id) == QUESTIONS


def test_one_that_is_not_there_is_said(store: Store) -> None:
    for ask in (store.benchmarks.get, lambda number: store.benchmarks.begin(number, "launch")):
        with pytest.raises(StoreError, match="no benchmark 3"):
            ask(3)


def test_only_runs_that_ended_by_themselves_are_kept_when_it_begins_again(
    store: Store, start: RunStart
) -> None:
    benchmark_id = store.benchmarks.create(PLAN, QUESTIONS)
    ends: list[RunEnd] = ["stop", "length", "failed", "cancelled"]
    for number, end in enumerate(ends):
        add(store, benchmark_id, replace(FIRST, repetition=number), start, end)
    store.benchmarks.add_run(
        benchmark_id, replace(FIRST, repetition=9), store.start_run(start), 100.0
    )
    assert [each.complete for each in store.benchmarks.answers(benchmark_id)] == [
        True, True, False, False, False
    ]  # fmt: skip
    store.benchmarks.begin(benchmark_id, "launch")
    left = store.benchmarks.answers(benchmark_id)
    assert [each.asked.repetition for each in left] == [0, 1]
    assert store.benchmarks.get(benchmark_id).num_answered == 2


def test_answers_leave_token_ids_in_the_log(store: Store, start: RunStart) -> None:
    benchmark_id = store.benchmarks.create(PLAN, QUESTIONS)
    run_id = add(store, benchmark_id, FIRST, start, "stop")
    (answer,) = store.benchmarks.answers(benchmark_id)
    whole = store.get_run(run_id)
    assert whole is not None
    assert whole.token_ids == (1,)
    assert answer.record == replace(whole, token_ids=())


def test_a_prompt_has_one_answer_and_its_score(store: Store, start: RunStart) -> None:
    benchmark_id = store.benchmarks.create(PLAN, QUESTIONS)
    add(store, benchmark_id, FIRST, start, "failed")
    run_id = add(store, benchmark_id, FIRST, start, "stop")
    store.benchmarks.save_score(benchmark_id, FIRST, 1.0)
    (answer,) = store.benchmarks.answers(benchmark_id)
    assert (answer.asked, answer.record.id, answer.score) == (FIRST, run_id, 1.0)
    assert (answer.began_at, answer.share) == (100.0, 0)


def test_a_benchmark_belongs_to_the_process_that_works_on_it(
    store: Store, database: Path, start: RunStart
) -> None:
    benchmark_id = store.benchmarks.create(PLAN, QUESTIONS)
    with Store(database) as other:
        other.benchmarks.begin(benchmark_id, "theirs")
        assert store.benchmarks.get(benchmark_id).running
        with pytest.raises(StoreError, match="going on already"):
            store.benchmarks.begin(benchmark_id, "ours")
    store.benchmarks.begin(benchmark_id, "ours")  # the other one is gone
    add(store, benchmark_id, FIRST, start, "stop")
    store.benchmarks.leave(benchmark_id)
    store.benchmarks.forget_empty(benchmark_id)  # it is not empty
    assert not store.benchmarks.get(benchmark_id).running


def test_the_last_of_several_processes_finishes_it(store: Store, database: Path) -> None:
    benchmark_id = store.benchmarks.create(PLAN, QUESTIONS)
    with Store(database) as other:
        assert other.benchmarks.begun_by("launch") is None
        store.benchmarks.begin(benchmark_id, "launch", 2)
        assert other.benchmarks.begun_by("launch") == benchmark_id
        assert not store.benchmarks.end_share(benchmark_id)
        assert other.benchmarks.end_share(benchmark_id)
        assert other.benchmarks.begun_by("launch") is None
    assert store.benchmarks.get(benchmark_id).finished_at is not None


def test_one_that_asked_nothing_is_forgotten(store: Store) -> None:
    benchmark_id = store.benchmarks.create(PLAN, QUESTIONS)
    store.benchmarks.forget_empty(benchmark_id)
    assert store.benchmarks.latest() == []
    assert store.benchmarks.questions(benchmark_id) == {}


def test_the_newest_are_listed_first(store: Store) -> None:
    first, second = (store.benchmarks.create(PLAN, QUESTIONS) for _ in range(2))
    store.benchmarks.begin(second, "launch")
    store.benchmarks.end_share(second)
    assert [each.id for each in store.benchmarks.latest()] == [second, first]
    assert [each.id for each in store.benchmarks.latest(unfinished=True)] == [first]
    assert len(store.benchmarks.latest(limit=1)) == 1


def test_an_owner_sees_only_their_own(store: Store) -> None:
    own, others = (store.benchmarks.create(PLAN, QUESTIONS, name) for name in ("ann", "bob"))
    assert [each.id for each in store.benchmarks.latest(owner="ann")] == [own]
    assert [each.id for each in store.benchmarks.latest(unfinished=True, owner="bob")] == [others]
    assert store.benchmarks.get(own, "ann").owner == "ann"
    assert store.benchmarks.get(own).id == own
    with pytest.raises(StoreError, match=f"no benchmark {own}"):
        store.benchmarks.get(own, "bob")


def test_one_is_deleted_with_its_runs_and_no_others(store: Store, start: RunStart) -> None:
    first, second = (store.benchmarks.create(PLAN, QUESTIONS) for _ in range(2))
    add(store, first, FIRST, start, "stop")
    kept = add(store, second, FIRST, start, "stop")
    store.benchmarks.begin(first, "launch")
    with pytest.raises(StoreError, match="stop it first"):
        store.benchmarks.delete(first)
    store.benchmarks.leave(first)
    store.benchmarks.delete(first)
    assert [each.id for each in store.benchmarks.latest()] == [second]
    assert [each.id for each in store.list_runs()] == [kept]
    assert store.benchmarks.questions(first) == {}
    with pytest.raises(StoreError, match=f"no benchmark {first}"):
        store.benchmarks.delete(first)


def test_what_was_measured_so_far_is_read_without_texts(store: Store, start: RunStart) -> None:
    benchmark_id = store.benchmarks.create(PLAN, QUESTIONS)
    run_id = store.start_run(start)
    store.benchmarks.add_run(benchmark_id, FIRST, run_id, 100.0)
    assert store.benchmarks.measured(benchmark_id) == []
    figures = RunMetrics(decode_tok_s=40.0, mean_acceptance_length=2.5)
    store.finish_run(run_id, "stop", output="text", token_ids=(1,), metrics=figures)
    add(store, benchmark_id, replace(FIRST, turn=1), start, "failed")
    (measured,) = store.benchmarks.measured(benchmark_id)
    assert measured == Measured(FIRST, 40.0, 2.5)
