import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest
from dflash_plugins.benchmark.background import Background
from dflash_plugins.benchmark.plan import Plan

from dflash_app.errors import GenerationFailed, StoreError
from dflash_app.events import DecodeEvent
from dflash_app.request import GenerationRequest
from dflash_app.settings import Settings
from dflash_app.workspace import open_workspace
from tests.plugins.benchmark.conftest import SERVERS, Bench, answer
from tests.plugins.remote.scripted_server import as_vllm, events, says, stream

PLAN = Plan(datasets=("mine.jsonl",), warm_up=0)


def test_a_benchmark_goes_on_while_nobody_looks(bench: Bench, questions: Path) -> None:
    background = Background(bench.workspace)
    assert background.standing() is None
    benchmark_id = background.start(PLAN, [questions])
    assert background.wait(20)
    standing = background.standing()
    assert standing is not None
    assert (standing.running, standing.problem) == (False, None)
    assert standing.progress.finished
    assert standing.progress.benchmark_id == benchmark_id


def test_it_is_stopped_and_resumed_and_one_runs_at_a_time(bench: Bench, questions: Path) -> None:
    held = Event()

    def waiting(request: GenerationRequest) -> Iterator[DecodeEvent | BaseException]:
        for event in answer(request):
            yield event
            held.wait(20)

    bench.here.answering = waiting  # type: ignore[assignment]
    background = Background(bench.workspace)
    benchmark_id = background.start(PLAN, [questions])
    with pytest.raises(StoreError, match=f"Benchmark {benchmark_id} is going on already"):
        background.start(PLAN, [questions])
    with pytest.raises(StoreError, match="going on already"):
        background.resume()
    background.stop()
    held.set()
    assert background.wait(20)
    standing = background.standing()
    assert standing is not None
    assert not standing.progress.finished
    bench.here.answering = answer
    assert background.resume() == benchmark_id
    assert background.wait(20)
    standing = background.standing()
    assert standing is not None
    assert standing.progress.finished


def test_what_ended_it_is_told(bench: Bench, questions: Path) -> None:
    bench.here.answering = lambda request: [GenerationFailed("The device is lost.")]
    background = Background(bench.workspace)
    background.start(PLAN, [questions])
    assert background.wait(20)
    standing = background.standing()
    assert standing is not None
    assert not standing.running
    assert "The device is lost." in (standing.problem or "")


def test_a_stop_reaches_a_server_that_says_nothing(settings: Settings, questions: Path) -> None:
    silent = stream(events(says("a "), done=False), ending="silent")
    with as_vllm(silent) as server:
        there = re.sub(r"model: \w+", "model: embedded", SERVERS)
        there = there.replace("http://127.0.0.1:9/v1", server.url)
        settings.user_registry.write_text(there)
        with closing(open_workspace(settings)) as workspace:
            background = Background(workspace)
            plan = Plan(pair="served", modes=("dflash",), datasets=("mine.jsonl",), warm_up=0)
            background.start(plan, [questions])
            while not server.chats():
                assert not background.wait(0.01), background.standing()
            background.stop()
            assert background.wait(10)
            assert server.gone.wait(5)
            standing = background.standing()
            assert standing is not None
            assert (standing.stopped, standing.problem) == (True, None)
            assert standing.progress.num_failed == 0
            (run,) = workspace.store.list_runs()
            assert run.finish_reason == "cancelled"


def test_what_failed_is_dismissed_once_it_was_told_and_a_stop_is_not(
    bench: Bench, questions: Path
) -> None:
    bench.here.answering = lambda request: [GenerationFailed("The device is lost.")]
    background = Background(bench.workspace)
    background.start(PLAN, [questions])
    assert background.wait(20)
    background.dismiss(only_told=True)
    assert background.standing() is not None
    background.dismiss(only_told=True)
    assert background.standing() is None
    bench.here.answering = answer
    background.resume()
    assert background.wait(20)
    background.dismiss()
    standing = background.standing()
    assert standing is not None
    assert standing.progress.finished
