"""What is asked, what is recorded, and what happens where it goes wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest
from dflash_plugins.benchmark.kept import create, resumable, sit_down
from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.progress import Progress
from dflash_plugins.benchmark.results import CellResult, results

from dflash_app.errors import GenerationFailed, LoadError, PromptTooLong, RequestError, StoreError
from dflash_app.events import DecodeEvent
from dflash_app.request import GenerationRequest
from dflash_app.store.records import RunFilter
from dflash_app.workspace import Workspace
from tests.fakes import script_of
from tests.plugins.benchmark.conftest import Bench, answer

MINE = Plan(datasets=("mine.jsonl",), warm_up=0)
SERVED = Plan(pair="served", datasets=("mine.jsonl",), warm_up=0)


def begin(workspace: Workspace, plan: Plan, questions: Path) -> int:
    return create(workspace, plan, [questions])


def finish(workspace: Workspace, benchmark_id: int) -> list[Progress]:
    return list(sit_down(workspace, benchmark_id).run())


def cell(workspace: Workspace, benchmark_id: int, method: str, concurrency: int = 1) -> CellResult:
    found = results(workspace.store, benchmark_id).cell("mine.jsonl", method, concurrency)
    assert found is not None
    return found


def test_every_prompt_is_a_run_of_the_log(bench: Bench, questions: Path) -> None:
    workspace = bench.workspace
    benchmark_id = begin(workspace, MINE, questions)
    told = finish(workspace, benchmark_id)
    runs = workspace.store.list_runs(RunFilter(source="benchmark", task="mine.jsonl"))
    assert len(runs) == 8
    assert {run.start.group_id for run in runs} == {f"benchmark-{benchmark_id}"}
    assert [each.num_done for each in told] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert [each.finished for each in told] == [False] * 9 + [True]
    assert told[0].left_s is None
    assert told[8].left_s == 0.0
    assert all(each.left_s for each in told[1:8])
    record = workspace.store.benchmarks.get(benchmark_id)
    assert record.finished_at is not None
    assert (record.num_answered, record.running) == (8, False)


def test_figures_and_scores_come_from_the_runs(bench: Bench, questions: Path) -> None:
    benchmark_id = begin(bench.workspace, MINE, questions)
    finish(bench.workspace, benchmark_id)
    plain = cell(bench.workspace, benchmark_id, "ar")
    drafted = cell(bench.workspace, benchmark_id, "dflash")
    assert plain.num_prompts == plain.figures.num_answered == 4
    assert plain.figures.decode_tok_s == pytest.approx(4.0)
    assert drafted.figures.mean_acceptance_length == pytest.approx(2.0)
    assert (plain.figures.score, plain.figures.num_scored) == (1.0, 1)
    assert [row.score for row in drafted.rows] == [None, None, None, 1.0]
    assert drafted.against_plain is not None
    assert drafted.against_plain.decode_speedup == pytest.approx(2.0)
    assert drafted.against_plain.num_identical == 4
    assert drafted.where[0].block_size == 4


def test_a_reply_is_the_history_of_the_next_turn(bench: Bench, questions: Path) -> None:
    finish(bench.workspace, begin(bench.workspace, MINE, questions))
    second = [each for each in bench.here.requests if each.messages[-1].content == "And then?"]
    assert [[(each.role, each.content) for each in asked.messages] for asked in second] == [
        [("user", "Second?"), ("assistant", "bcd"), ("user", "And then?")]
    ] * 2


def test_repetitions_are_warmed_up_once_and_seeded_apart(bench: Bench, questions: Path) -> None:
    plan = replace(MINE, temperature=1.0, seed=5, repetitions=2, warm_up=2)
    benchmark_id = begin(bench.workspace, plan, questions)
    finish(bench.workspace, benchmark_id)
    warm_ups = [each for each in bench.here.requests if "Warm-up" in each.messages[-1].content]
    assert sorted(each.mode for each in warm_ups) == ["ar", "ar", "dflash", "dflash"]
    assert {each.max_new_tokens for each in warm_ups} == {32}
    runs = bench.workspace.store.list_runs(RunFilter(source="benchmark"))
    assert sorted(run.start.seed or 0 for run in runs) == [5] * 8 + [6] * 8


def test_what_was_answered_is_not_asked_again(bench: Bench, questions: Path) -> None:
    workspace = bench.workspace
    benchmark_id = begin(workspace, MINE, questions)
    sitting = sit_down(workspace, benchmark_id)
    for progress in sitting.run():
        if progress.num_done == 5:  # within the question of two turns
            sitting.stop()
    assert workspace.store.benchmarks.get(benchmark_id).finished_at is None
    assert resumable(workspace.store, None) == benchmark_id
    questions.unlink()
    told = finish(workspace, benchmark_id)
    assert [each.num_done for each in told] == [5, 6, 7, 8, 8]
    assert len(workspace.store.list_runs(RunFilter(source="benchmark"))) == 8
    for method in ("ar", "dflash"):
        assert [row.output_digest for row in cell(workspace, benchmark_id, method).rows] == [
            cell(workspace, benchmark_id, "ar").rows[0].output_digest
        ] * 4


def test_stopping_cancels_the_run_that_goes_on(bench: Bench, questions: Path) -> None:
    workspace = bench.workspace
    under_way, may_go_on = Event(), Event()

    def slow(request: GenerationRequest) -> Iterator[DecodeEvent | BaseException]:
        first, *rest = script_of((2,), (3,))
        yield first
        under_way.set()
        may_go_on.wait(10)
        yield from rest

    bench.here.answering = slow  # type: ignore[assignment]
    benchmark_id = begin(workspace, MINE, questions)
    sitting = sit_down(workspace, benchmark_id)
    told: list[Progress] = []
    thread = Thread(target=lambda: told.extend(sitting.run()))
    thread.start()
    assert under_way.wait(10)
    sitting.stop()
    may_go_on.set()
    thread.join(10)
    assert [each.num_done for each in told] == [0]
    assert [run.finish_reason for run in workspace.store.list_runs()] == ["cancelled"]
    bench.here.answering = answer
    assert finish(workspace, benchmark_id)[-1].finished


def test_a_run_that_was_never_graded_is_graded_later(bench: Bench, questions: Path) -> None:
    workspace = bench.workspace
    benchmark_id = begin(workspace, MINE, questions)
    finish(workspace, benchmark_id)
    with workspace.store._transaction():
        workspace.store._db.execute("UPDATE benchmark_runs SET score = NULL")
    finish(workspace, benchmark_id)
    assert cell(workspace, benchmark_id, "ar").figures.score == 1.0
    assert len(workspace.store.list_runs()) == 8


def test_a_prompt_that_fails_is_recorded_and_the_rest_goes_on(
    bench: Bench, questions: Path
) -> None:
    def fragile(request: GenerationRequest) -> Sequence[DecodeEvent | BaseException]:
        if request.messages[-1].content == "Second?" and request.mode == "ar":
            return [GenerationFailed("It broke: try again.")]
        return answer(request)

    bench.here.answering = fragile
    benchmark_id = begin(bench.workspace, MINE, questions)
    told = finish(bench.workspace, benchmark_id)
    assert (told[-1].num_done, told[-1].num_failed) == (6, 2)
    assert [each.error for each in told if each.error] == ["It broke: try again."]
    figures = cell(bench.workspace, benchmark_id, "ar").figures
    assert (figures.num_answered, figures.num_failed) == (2, 1)
    bench.here.answering = answer
    assert finish(bench.workspace, benchmark_id)[-1].num_done == 8
    figures = cell(bench.workspace, benchmark_id, "ar").figures
    assert (figures.num_answered, figures.num_failed) == (4, 0)


def test_three_failures_of_one_method_end_the_benchmark_resumable(
    bench: Bench, questions: Path
) -> None:
    def half_broken(request: GenerationRequest) -> Sequence[DecodeEvent | BaseException]:
        broken = request.mode == "dflash"
        return [GenerationFailed("The server is gone.")] if broken else answer(request)

    bench.here.answering = half_broken
    benchmark_id = begin(bench.workspace, MINE, questions)
    with pytest.raises(GenerationFailed, match=r"DFlash failed 3 times.*gone.*--resume 1`"):
        finish(bench.workspace, benchmark_id)
    bench.here.answering = answer
    assert finish(bench.workspace, benchmark_id)[-1].num_done == 8


def test_prompts_that_are_refused_end_nothing(bench: Bench, questions: Path) -> None:
    bench.here.answering = lambda request: [PromptTooLong("Too long: shorten it.")]
    benchmark_id = begin(bench.workspace, MINE, questions)
    told = finish(bench.workspace, benchmark_id)
    assert (told[-1].num_done, told[-1].num_failed) == (0, 8)


def test_a_server_has_as_many_requests_as_were_asked(bench: Bench, questions: Path) -> None:
    together = Barrier(3, timeout=20)

    def in_company(request: GenerationRequest) -> Iterator[DecodeEvent | BaseException]:
        if request.messages[-1].content != "And then?":
            together.wait()  # breaks unless three are under way
        yield from answer(request)

    bench.there.answering = in_company  # type: ignore[assignment]
    plan = replace(SERVED, concurrency=(3,), warm_up=1)
    benchmark_id = begin(bench.workspace, plan, questions)
    told = finish(bench.workspace, benchmark_id)
    assert (told[-1].num_done, told[-1].num_failed) == (8, 0)
    assert cell(bench.workspace, benchmark_id, "dflash", 3).figures.num_answered == 4


def test_an_error_in_a_thread_reaches_the_reader(bench: Bench, questions: Path) -> None:
    bench.there.answering = lambda request: [ZeroDivisionError("a bug")]
    plan = replace(SERVED, concurrency=(2,))
    benchmark_id = begin(bench.workspace, plan, questions)
    with pytest.raises(ZeroDivisionError):
        finish(bench.workspace, benchmark_id)
    assert not bench.workspace.store.benchmarks.get(benchmark_id).running


@pytest.mark.parametrize(("baseline", "mode"), [("mtp", "dflash"), ("plain", "ar")])
def test_a_baseline_is_a_column_of_its_own(
    bench: Bench, questions: Path, baseline: str, mode: str
) -> None:
    plan = replace(SERVED, baseline=baseline, baseline_label="MTP")
    benchmark_id = begin(bench.workspace, plan, questions)
    finish(bench.workspace, benchmark_id)
    found = cell(bench.workspace, benchmark_id, "baseline")
    assert (found.label, found.figures.num_answered) == ("MTP", 4)
    assert [each.mode for each in bench.there.pairs[baseline].requests] == [mode] * 4
    assert found.against_plain is not None


def test_runs_here_read_their_whole_prompt_and_servers_keep_theirs(
    bench: Bench, questions: Path
) -> None:
    finish(bench.workspace, begin(bench.workspace, MINE, questions))
    finish(bench.workspace, begin(bench.workspace, SERVED, questions))
    assert bench.here.pairs["embedded"].num_raced == 8
    assert bench.there.pairs["served"].num_raced == 0


def test_a_pair_that_cannot_be_loaded_leaves_no_benchmark(bench: Bench, questions: Path) -> None:
    bench.here.failing = True
    benchmark_id = begin(bench.workspace, MINE, questions)
    with pytest.raises(LoadError, match="corrupt"):
        finish(bench.workspace, benchmark_id)
    assert bench.workspace.store.benchmarks.latest() == []


def test_one_process_works_on_a_benchmark_at_a_time(bench: Bench, questions: Path) -> None:
    benchmark_id = begin(bench.workspace, MINE, questions)
    sit_down(bench.workspace, benchmark_id)
    with pytest.raises(StoreError, match="going on already"):
        sit_down(bench.workspace, benchmark_id)


def test_what_is_not_there_is_said(bench: Bench) -> None:
    with pytest.raises(StoreError, match="no benchmark 7"):
        sit_down(bench.workspace, 7)
    with pytest.raises(StoreError, match="No benchmark was left unfinished"):
        resumable(bench.workspace.store, None)
    with pytest.raises(RequestError, match=r"(?s)Unknown dataset 'gsm9k': use bundled, gsm8k"):
        create(bench.workspace, Plan(datasets=("gsm9k",)))
    with pytest.raises(RequestError, match=r"'/etc/x\.jsonl' was not given"):
        create(bench.workspace, Plan(datasets=("/etc/x.jsonl",)))
