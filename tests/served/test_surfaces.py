"""Chat, race, benchmark and stop on a real vLLM."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from benchmarks.prompts import DEMONSTRATION, held_out_prompts
from dflash_app.cli import main
from dflash_app.engine.stopping import stopped_by
from dflash_app.errors import PairNotReady, PromptTooLong
from dflash_app.events import DecodeEvent, Finished, ServerCounts, TextDelta, TokensArrived
from dflash_app.metrics import summarize
from dflash_app.request import GenerationRequest, Message, Mode
from dflash_app.store.records import RunFilter
from dflash_app.workspace import Workspace
from tests.served.conftest import LACKING, PAIR, Servers
from tests.served.running_vllm import NUM_DRAFTS, Served

PATIENCE_S = 30.0
CUTS = 5
"""Most replies that are cut until one is cut in time: on a busy machine half a second is short."""


def ask(text: str = DEMONSTRATION, mode: Mode = "dflash", **options: Any) -> GenerationRequest:
    return GenerationRequest((Message("user", text),), 400, mode=mode, **options)


def text_of(events: list[DecodeEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_a_chat_streams_and_its_run_is_kept_with_what_the_server_told(
    workspace: Workspace,
) -> None:
    loaded = workspace.loaded(PAIR)
    events = list(workspace.run(loaded, ask(), source="chat"))
    arrivals = [event for event in events if isinstance(event, TokensArrived)]
    assert len(arrivals) > 5
    assert arrivals[0].elapsed_s < arrivals[-1].elapsed_s
    assert text_of(events).rstrip().endswith("196 has **9** divisors.")
    assert isinstance(events[-2], ServerCounts)
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "stop"

    [run] = workspace.store.list_runs(limit=1)
    assert (run.start.backend, run.start.dtype, run.finish_reason) == ("remote", "server", "stop")
    assert run.output == text_of(events)
    assert run.metrics.mean_acceptance_length == summarize(events).mean_acceptance_length
    assert run.metrics.acceptance_source == "vLLM, this request"
    assert loaded.path == "vLLM 0.32.0"
    assert loaded.block_size == NUM_DRAFTS + 1


def test_replies_to_several_at_once_are_the_same_as_one_by_one(workspace: Workspace) -> None:
    loaded = workspace.loaded(PAIR)
    requests = [ask(prompt.text) for prompt in held_out_prompts(15)]

    def reply(request: GenerationRequest) -> str:
        return text_of(list(workspace.run(loaded, request, source="test")))

    alone = [reply(request) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reply, requests)) == alone


def test_a_stop_text_ends_the_reply_before_it_and_leaves_the_servers_counters(
    workspace: Workspace,
) -> None:
    whole = text_of(list(workspace.run(workspace.loaded(PAIR), ask(), source="test")))
    workspace.unload()  # a client that knows nothing of how this server counts
    stopped = ask(stop=("divisors",))
    events = list(workspace.run(workspace.loaded(PAIR), stopped, source="test"))
    assert text_of(events) == whole.partition("divisors")[0]
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "stop"
    metrics = summarize(events)
    assert (metrics.acceptance_source, metrics.acceptance_shared) == ("vLLM /metrics", True)
    assert metrics.mean_acceptance_length is not None
    assert 1 < metrics.mean_acceptance_length <= NUM_DRAFTS + 1


def wait_until(condition: Callable[[], object], complaint: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, complaint
        time.sleep(0.01)


def ends_unfinished(server: Served, cut: Callable[[], None]) -> bool:
    """Whether the server's work ended with `cut`, and not because a reply was whole."""
    finished = server.metric("vllm:request_success_total")
    cut()
    running = "vllm:num_requests_running"
    wait_until(lambda: server.metric(running) == 0, "the server still works")
    return server.metric("vllm:request_success_total") == finished


def test_closing_a_reply_ends_the_servers_work_for_it(
    workspace: Workspace, servers: Servers
) -> None:
    loaded = workspace.loaded(PAIR)

    def close_at_once() -> None:
        events: Any = workspace.run(loaded, ask(mode="ar"), source="test")
        assert isinstance(next(events), TokensArrived)
        events.close()

    assert any(ends_unfinished(servers.plain, close_at_once) for _ in range(CUTS))
    [run] = workspace.store.list_runs(limit=1)
    assert run.finish_reason == "cancelled"


def test_a_stop_reaches_the_server_while_its_reader_waits(
    workspace: Workspace, servers: Servers
) -> None:
    loaded = workspace.loaded(PAIR)
    seen: list[DecodeEvent] = []

    def read(stop: Event) -> None:
        with stopped_by(stop):
            for event in workspace.run(loaded, ask(mode="ar"), source="test"):
                seen.append(event)

    def stop_at_once() -> None:
        seen.clear()
        stop = Event()
        reader = Thread(target=read, args=[stop])
        reader.start()
        wait_until(lambda: seen, "nothing came")
        stop.set()
        reader.join(PATIENCE_S)
        assert not reader.is_alive()

    assert any(ends_unfinished(servers.plain, stop_at_once) for _ in range(CUTS))
    assert isinstance(seen[-1], Finished)
    assert seen[-1].reason == "cancelled"


def test_a_pair_whose_model_is_not_served_is_refused_with_what_is(workspace: Workspace) -> None:
    with pytest.raises(PairNotReady, match=r"serves no model 'other'.*'embedded'"):
        workspace.loaded(LACKING)


def test_a_wrong_key_is_refused_and_not_told(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.unload()
    monkeypatch.setenv("DFLASH_APP_KEY_SERVED", "sk-guessed")
    with pytest.raises(PairNotReady, match="DFLASH_APP_KEY_SERVED") as refused:
        workspace.loaded(PAIR)
    assert "sk-guessed" not in str(refused.value)


def test_a_prompt_that_is_too_long_is_refused_as_such(workspace: Workspace) -> None:
    with pytest.raises(PromptTooLong):
        list(workspace.run(workspace.loaded(PAIR), ask("word " * 1500), source="test"))


@pytest.fixture
def command(
    served_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs `dflash-app` on the served pair and reads what it prints."""
    monkeypatch.setenv("DFLASH_APP_HOME", str(served_home))

    def run(*arguments: str) -> Any:
        capsys.readouterr()
        assert main([*arguments, "--pair", PAIR, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


def test_a_race_of_the_plain_server_against_dflashs_is_identical_by_tokens(
    command: Callable[..., Any],
) -> None:
    race = command("generate", "--compare", DEMONSTRATION)
    plain, dflash = race["runs"]
    assert race["verdict"]["identical"]
    assert race["verdict"]["num_compared"] == plain["metrics"]["num_output_tokens"]
    assert race["speedup"] > 0
    assert plain["metrics"]["mean_acceptance_length"] is None
    assert dflash["metrics"]["mean_acceptance_length"] > 2


def test_a_benchmark_asks_one_and_four_at_a_time(
    command: Callable[..., Any], workspace: Workspace
) -> None:
    results = command("benchmark", "--prompts", "4", "--concurrency", "1,4")
    places = {(cell["method"], cell["concurrency"]) for cell in results["cells"]}
    assert places == {("ar", 1), ("ar", 4), ("dflash", 1), ("dflash", 4)}
    for cell in results["cells"]:
        assert cell["figures"]["num_answered"] == cell["num_prompts"] == 4
        assert cell["figures"]["end_to_end_tok_s"] > 0
        accepted = cell["figures"]["mean_acceptance_length"]
        assert accepted is None if cell["method"] == "ar" else accepted > 1
    plain, *others = [[row["output_digest"] for row in each["rows"]] for each in results["cells"]]
    assert all(other == plain for other in others)
    assert workspace.store.count_runs(RunFilter(source="benchmark")) == 16
