import threading
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dflash_app.errors import StoreError
from dflash_app.metrics import RunMetrics
from dflash_app.store.records import RunFilter, RunStart
from dflash_app.store.runs import Store

METRICS = RunMetrics(
    num_reused_tokens=3,
    num_prompt_tokens=12,
    num_output_tokens=9,
    num_steps=2,
    queue_s=0.0,
    ttft_s=0.5,
    decode_s=0.25,
    total_s=0.75,
    tpot_s=0.03125,
    decode_tok_s=32.0,
    end_to_end_tok_s=12.0,
    mean_acceptance_length=4.0,
    acceptance_by_position=(1.0, 0.5),
    acceptance_histogram=(0, 1, 1),
    propose_s=0.05,
    verify_s=0.2,
    peak_memory_bytes=2**40,
    at_client=True,
    acceptance_source="vLLM /metrics",
    acceptance_shared=True,
)


def test_a_finished_run_reads_back_as_it_was_written(store: Store, start: RunStart) -> None:
    run_id = store.start_run(start)
    store.finish_run(run_id, "stop", output="nine", token_ids=[7, 8], metrics=METRICS)
    record = store.get_run(run_id)
    assert record is not None
    assert record.start == start
    assert record.metrics == METRICS
    assert (record.finish_reason, record.output, record.token_ids) == ("stop", "nine", (7, 8))
    assert record.error is None
    assert record.finished_at is not None
    assert timedelta(0) <= record.finished_at - start.started_at < timedelta(minutes=1)


def test_every_figure_of_a_run_has_a_column_and_a_value_in_this_test() -> None:
    defaults = RunMetrics()
    same = [
        f.name for f in fields(METRICS) if getattr(METRICS, f.name) == getattr(defaults, f.name)
    ]
    assert same == []


def test_a_run_that_goes_on_is_listed_as_running_with_the_text_so_far(
    store: Store, start: RunStart
) -> None:
    run_id = store.start_run(start)
    store.save_progress(run_id, "ni", [7])
    (record,) = store.list_runs(RunFilter(finish_reason="running"))
    assert (record.id, record.output, record.token_ids) == (run_id, "ni", (7,))
    assert record.finish_reason is None
    assert record.finished_at is None
    assert record.metrics == RunMetrics()


def test_unknown_figures_stay_none_and_never_become_zero(
    store: Store, database: Path, start: RunStart
) -> None:
    run_id = store.start_run(start)
    store.finish_run(
        run_id, "failed", output="", token_ids=[], metrics=RunMetrics(), error="It broke."
    )
    record = store.get_run(run_id)
    assert record is not None
    assert record.metrics == RunMetrics()
    assert record.metrics.ttft_s is None
    assert record.metrics.decode_tok_s is None
    assert record.error == "It broke."


def test_runs_are_listed_newest_first_in_pages(store: Store, start: RunStart) -> None:
    ids = [store.start_run(start) for _ in range(5)]
    assert [record.id for record in store.list_runs(limit=2, offset=1)] == [ids[3], ids[2]]
    assert store.count_runs() == 5


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (RunFilter(), {"a", "b", "c"}),
        (RunFilter(pair="b"), {"b"}),
        (RunFilter(mode="ar"), {"b"}),
        (RunFilter(source="race"), {"c"}),
        (RunFilter(group_id="g"), {"c"}),
        (RunFilter(finish_reason="length"), {"a"}),
        (RunFilter(finish_reason="running"), {"b", "c"}),
        (RunFilter(text="100%"), {"a"}),
        (RunFilter(text="EULER"), {"a"}),
        (RunFilter(text="divisors"), {"b", "c"}),
        (RunFilter(text="_"), set()),
        (RunFilter(since=datetime(2026, 1, 2, tzinfo=UTC)), {"c"}),
        (RunFilter(since=datetime(2026, 1, 2, 2, tzinfo=UTC)), {"c"}),
        (RunFilter(mode="dflash", source="race"), {"c"}),
        (RunFilter(pair="x' OR 1 --"), set()),
        (RunFilter(owner="visitor-1"), {"a", "b"}),
        (RunFilter(owner="visitor-2"), {"c"}),
        (RunFilter(owner="' OR 1 --"), set()),
    ],
)
def test_filters_choose_the_runs_they_name(
    store: Store, start: RunStart, filters: RunFilter, expected: set[str]
) -> None:
    early = datetime(2026, 1, 1, tzinfo=UTC)
    asked = ({"role": "user", "content": "Tell me about Euler"},)
    first = store.start_run(replace(start, pair="a", messages=asked, started_at=early))
    store.finish_run(first, "length", output="100% so", token_ids=[], metrics=METRICS)
    store.start_run(replace(start, pair="b", mode="ar", started_at=early))
    # The same moment as 2026-01-02T02:30Z, written in another zone.
    zone = datetime.fromisoformat("2026-01-01T23:30:00-03:00")
    store.start_run(
        replace(start, pair="c", source="race", group_id="g", owner="visitor-2", started_at=zone)
    )
    assert {record.start.pair for record in store.list_runs(filters)} == expected
    assert store.count_runs(filters) == len(expected)


def test_deleting_spares_runs_that_go_on_and_ids_are_never_given_twice(
    store: Store, start: RunStart
) -> None:
    done, going = store.start_run(start), store.start_run(start)
    store.finish_run(done, "stop", output="", token_ids=[], metrics=METRICS)
    assert store.delete_runs([done, going, 999]) == 1
    assert store.get_run(done) is None
    store.finish_run(going, "stop", output="", token_ids=[], metrics=METRICS)
    assert store.delete_runs([going]) == 1
    assert store.start_run(start) > going


def test_a_run_of_another_owner_is_neither_shown_nor_deleted(store: Store, start: RunStart) -> None:
    run_id = store.start_run(start)
    store.finish_run(run_id, "stop", output="", token_ids=[], metrics=METRICS)
    assert store.get_run(run_id, "visitor-2") is None
    assert store.delete_runs([run_id], "visitor-2") == 0
    assert store.get_run(run_id, "visitor-1") == store.get_run(run_id) is not None
    assert store.delete_runs([run_id], "visitor-1") == 1


def test_finishing_a_run_that_is_not_there_says_so(store: Store) -> None:
    with pytest.raises(StoreError, match="Run 5 is no longer in the run database"):
        store.finish_run(5, "stop", output="", token_ids=[], metrics=METRICS)


@pytest.mark.parametrize("text", ["half a pair \ud800", "nul \0 and bell \a", "<|im_end|>", "ü\n'"])
def test_any_text_can_be_recorded(store: Store, start: RunStart, text: str) -> None:
    messages = ({"role": "user", "content": text},)
    run_id = store.start_run(replace(start, messages=messages))
    store.finish_run(run_id, "failed", output=text, token_ids=[], metrics=METRICS, error=text)
    record = store.get_run(run_id)
    assert record is not None
    assert record.start.messages == messages
    assert record.output == text.replace("\ud800", "?")


def test_many_threads_share_one_store(store: Store, start: RunStart) -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(10):
                run_id = store.start_run(start)
                store.save_progress(run_id, "a", [1])
                store.finish_run(run_id, "stop", output="ab", token_ids=[1, 2], metrics=METRICS)
                store.list_runs(limit=3)
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.count_runs(RunFilter(finish_reason="stop")) == 60


def test_runs_survive_closing_and_opening(database: Path, start: RunStart) -> None:
    with Store(database) as first:
        run_id = first.start_run(start)
        first.finish_run(run_id, "stop", output="nine", token_ids=[7], metrics=METRICS)
    with Store(database) as second:
        record = second.get_run(run_id)
        assert record is not None
        assert record.output == "nine"
        assert record.finish_reason == "stop"


def test_closing_leaves_nothing_but_the_database(database: Path, start: RunStart) -> None:
    with Store(database) as opened:
        opened.start_run(start)
    assert [path.name for path in database.parent.iterdir()] == ["runs.db"]


def test_a_store_without_a_path_lives_in_memory(start: RunStart) -> None:
    with Store(None) as memory:
        run_id = memory.start_run(start)
        memory.finish_run(run_id, "stop", output="nine", token_ids=[7], metrics=METRICS)
        assert [record.output for record in memory.list_runs()] == ["nine"]


def test_a_memory_store_does_not_take_its_own_runs_for_interrupted(start: RunStart) -> None:
    with Store(None) as memory:
        memory.start_run(start)
        assert memory.mark_interrupted() == 0
        assert memory.list_runs()[0].finish_reason is None


def test_a_run_may_end_on_another_path_than_it_began_on(store: Store, start: RunStart) -> None:
    kept, changed = store.start_run(start), store.start_run(start)
    store.finish_run(kept, "stop", output="", token_ids=[], metrics=METRICS)
    paths = "dynamic cache", None
    store.finish_run(changed, "stop", output="", token_ids=[], metrics=METRICS, paths=paths)
    last, first = (record.start for record in store.list_runs())
    assert (last.path, last.drafter_path) == paths
    assert (first.path, first.drafter_path) == (start.path, start.drafter_path)
