"""Programs use the page by three endpoints: answered or refused, never mixed up, never broken."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import psutil
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from benchmarks.clients import Reply, ask_at_once, open_clients
from dflash_app.request import GenerationRequest, Message, SamplingParams
from dflash_app.ui.api import Api
from dflash_app.ui.live import DeviceTurn, LiveRuns
from dflash_app.ui.shell import Page, build_page
from tests.e2e.running_app import RunningApp, newest_run, start_app
from tests.fakes import ScriptedPair
from tests.ui.conftest import StageOpener
from tests.ui.stage import PacedPair, one_reply, two_lanes, visitor

NUM_CLIENTS = 20
MAX_GROWTH_BYTES = 15e6


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """A public page of the shipped pair, as a Space serves it."""
    home = tmp_path_factory.mktemp("space")
    with start_app(home, DFLASH_APP_PUBLIC="1", DFLASH_APP_MAX_WAITING="12") as running:
        yield running
    assert "Traceback" not in running.printed()


@pytest.fixture(scope="module")
def client(app: RunningApp) -> Client:
    return open_clients(app.url, 1)[0]


def open_api(open_stage: StageOpener, make: Any = one_reply, turn: DeviceTurn | None = None) -> Api:
    workspace = open_stage(make)
    with gr.Blocks():
        page = Page(workspace, None, None, LiveRuns(turn), lambda: False)  # type: ignore[arg-type]
    return Api(page)


def test_every_other_event_of_the_page_is_private(open_stage: StageOpener) -> None:
    blocks = build_page(open_stage(one_reply), LiveRuns())
    offered = {fn.api_name for fn in blocks.fns.values() if fn.api_visibility != "private"}
    assert offered == {"chat", "compare", "pairs"}


@pytest.mark.slow
def test_twenty_clients_are_answered_or_told_their_place_and_memory_stays(app: RunningApp) -> None:
    clients = open_clients(app.url, NUM_CLIENTS)
    process = psutil.Process(app.pid)
    replies: list[Reply] = []
    resident: list[int] = []
    for number in range(2):
        replies += ask_at_once(clients, 100 + number * NUM_CLIENTS)
        resident.append(process.memory_info().rss)
    refused = [each for each in replies if each.refusal is not None]
    assert [each for each in replies if each.mixed_up] == []
    assert all(each.place is not None and each.place > 12 for each in refused), refused
    # Twelve may wait; who has the turn as they come may be the warm-up, or one that just ends.
    assert len(replies) - len(refused) >= 2 * 12
    assert resident[-1] - resident[0] < MAX_GROWTH_BYTES


@pytest.mark.slow
def test_pairs_lists_what_the_public_page_offers(client: Client) -> None:
    (pair,) = client.predict(api_name="/pairs")
    assert (pair["name"], pair["status"], pair["reason"]) == ("embedded", "ready", None)


@pytest.mark.slow
def test_chat_streams_text_and_figures(app: RunningApp, client: Client) -> None:
    job = client.submit(message="What are the even numbers from 2 to 20?", api_name="/chat")
    answers = list(job)
    assert answers[-1]["state"] == "ended"
    assert answers[-1]["finish_reason"] == "stop"
    assert all(answers[-1]["text"].startswith(each["text"]) for each in answers)
    figures = answers[-1]["figures"]
    assert figures["num_output_tokens"] > figures["num_steps"] > 0
    run = newest_run(app)
    assert (run["source"], run["output"]) == ("api", answers[-1]["text"])
    assert run["owner"].startswith("session-")


@pytest.mark.slow
def test_compare_races_both_and_tells_whether_they_agree(client: Client) -> None:
    found = client.predict(message="What is 12 + 30?", max_new_tokens=48, api_name="/compare")
    assert found["verdict"]["identical"]
    assert found["ar"]["text"] == found["dflash"]["text"] != ""
    assert found["speedup"] > 0
    assert found["end_to_end_speedup"] > 0
    assert found["ar"]["figures"]["num_steps"] > found["dflash"]["figures"]["num_steps"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"message": ""}, "The prompt is empty"),
        ({"message": "x", "temperature": 9}, "temperature must be a number from 0 to 2, not 9"),
        ({"message": "x", "max_new_tokens": "many"}, "max_new_tokens must be a whole number"),
        ({"message": "x", "max_new_tokens": 2048}, "this public page gives 1,024"),
        ({"message": "x" * 30_000}, "this public page takes 20,000"),
        ({"message": "x", "pair": "qwen3-8b"}, "No pair is called 'qwen3-8b'"),
        ({"message": "x", "history": "y"}, "history must be a list"),
        ({"message": "x", "history": [{"role": "boss", "content": "y"}]}, "Unknown role 'boss'"),
        ({"message": "x", "mode": "fast"}, "Unknown mode 'fast'"),
        ({"message": 3}, "content must be text"),
        ({"message": "x", "block_size": 99}, "block_size must be a whole number from 2"),
        ({"message": "x", "seed": -1}, "seed must be a whole number"),
        ({"message": "x", "top_p": 0}, "top_p must be above 0"),
        ({"message": "x", "min_p": 1}, "min_p must be below 1"),
        (
            {"message": "x", "repetition_penalty": 0},
            "repetition_penalty must be a number from 0.01",
        ),
        ({"message": "x", "stop": "###"}, "Stop texts must be a list"),
        ({"message": "x", "stop": [""]}, "A stop text is empty"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence(
    client: Client, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence):
        client.predict(api_name="/chat", **values)


def test_a_request_that_may_not_wait_is_told_its_place(open_stage: StageOpener) -> None:
    pair = PacedPair(one_reply().scripts)
    api = open_api(open_stage, lambda: pair, DeviceTurn(max_waiting=1))
    running = api.chat("first", pair="scripted", request=visitor("a"))
    waiting = api.chat("second", pair="scripted", request=visitor("b"))
    next(running)
    places = [answer["place"] for answer in (next(waiting), next(waiting))]
    assert places[-1] == 1
    refused = api.chat("third", pair="scripted", request=visitor("c"))
    with pytest.raises(gr.Error, match="would be number 3, and 1 may wait"):
        list(refused)
    pair.gate.set()
    assert list(running)[-1]["state"] == "ended"
    assert list(waiting)[-1]["text"] == "bcdefgh"


def test_two_requests_of_one_program_do_not_stop_each_other(open_stage: StageOpener) -> None:
    api = open_api(open_stage)
    both = [api.chat(text, pair="scripted", request=visitor("one")) for text in ("a", "b")]
    began = [next(answers) for answers in both]
    ended = [[first, *rest][-1] for first, rest in zip(began, both, strict=True)]
    assert [answer["text"] for answer in ended] == ["bcdefgh"] * 2


def test_a_program_that_leaves_stops_its_run(open_stage: StageOpener) -> None:
    pair = PacedPair(one_reply().scripts, pause_s=0.01)
    pair.gate.set()
    api = open_api(open_stage, lambda: pair)
    answers = api.chat("hello", pair="scripted", request=visitor())
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert api.page.runs._runs == {}


def test_the_verdict_is_of_the_tokens_that_were_raced(open_stage: StageOpener) -> None:
    api = open_api(open_stage, two_lanes)
    *_, found = api.compare("hello", pair="scripted", request=visitor())
    assert found["verdict"] == {
        "identical": True,
        "num_compared": 7,
        "explanation": "Identical: 7 tokens.",
        "position": None,
        "margin": None,
        "near_tie": None,
        "by_text": False,
    }
    assert found["speedup"] == 3.0
    assert found["end_to_end_speedup"] == 2.0


SAMPLED = SamplingParams(0.7, 0.9, 40, 0.05, 1.1, 3)


@pytest.mark.parametrize(("name", "make"), [("chat", one_reply), ("compare", two_lanes)])
def test_every_setting_reaches_the_decoder_and_none_changes_nothing(
    open_stage: StageOpener, name: str, make: Callable[[], ScriptedPair]
) -> None:
    pair = make()
    ask = partial(getattr(open_api(open_stage, lambda: pair), name), "hello", pair="scripted")
    list(ask(**asdict(SAMPLED), stop=["###"], thinking="off", block_size=3, request=visitor()))
    asked = pair.requests[-1]
    assert (asked.sampling, asked.stop) == (SAMPLED, ("###",))
    assert (asked.thinking, asked.block_size) == ("off", 3)
    list(ask(request=visitor()))
    unchanged = GenerationRequest((Message("user", "hello"),), max_new_tokens=256)
    assert pair.requests[-1] == unchanged


def test_a_pair_without_drafter_cannot_be_raced(open_stage: StageOpener) -> None:
    with pytest.raises(gr.Error, match="lonely has no drafter"):
        list(open_api(open_stage).compare("hello", pair="lonely", request=visitor()))


def read_examples() -> str:
    """The Python of docs/api.md, in its order."""
    page = Path(__file__).parents[2] / "docs" / "api.md"
    blocks = page.read_text(encoding="utf-8").split("```python\n")[1:]
    return "\n".join(block.split("```")[0] for block in blocks)


@pytest.mark.slow
def test_the_examples_of_the_docs_run(app: RunningApp, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(read_examples().replace("http://127.0.0.1:7860", app.url), "api.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "embedded ready" in printed
    assert "identical: True" in printed
    assert "max_new_tokens must be" in printed
