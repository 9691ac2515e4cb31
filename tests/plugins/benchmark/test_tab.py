"""The Benchmark tab: started, followed, stopped, resumed, opened, deleted; all it says is inert."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import gradio as gr
import pytest
from dflash_plugins.benchmark.results import read_results

from dflash_app.errors import GenerationFailed
from dflash_app.events import DecodeEvent
from dflash_app.request import GenerationRequest
from tests.plugins.benchmark.bench_tab import Bench as Tab
from tests.plugins.benchmark.conftest import Bench, answer
from tests.ui.loops import close_loops

__all__ = ["close_loops"]

HOSTILE = "<img src=x onerror=alert(1)>${alert(2)}.jsonl"


class Held:
    """Answers that wait after their first event until a test lets them go on."""

    def __init__(self) -> None:
        self.begun, self.free = Event(), Event()

    def __call__(self, request: GenerationRequest) -> Iterator[DecodeEvent | BaseException]:
        for event in answer(request):
            yield event
            self.begun.set()
            assert self.free.wait(20)


@pytest.fixture
def tab(bench: Bench) -> Tab:
    return Tab(bench.workspace)


def test_before_the_first_one_it_says_what_to_do(tab: Tab) -> None:
    tab.show()
    assert "No benchmark yet: choose sets above and press Start." in tab.shown["bench-earlier"]
    assert tab.going is None
    assert 'class="dot"' not in tab.shown["bench-live"]


def test_one_is_started_followed_to_its_end_listed_and_opened(tab: Tab, questions: Path) -> None:
    shown = tab.start(files=[str(questions)])
    assert shown["bench-notice"] == ""
    assert tab.going == 1
    assert "Benchmark 1 is finished: 8 of 8 prompts." in tab.follow("finished")
    assert tab.going is None
    assert "8 of 8" in tab.shown["bench-earlier"]
    assert tab.opened is not None
    tab.open()
    report = tab.shown["bench-report"]
    for words in ("Benchmark 1: embedded", "mine.jsonl", "4 of 4", "Same text as AR", "greedy"):
        assert words in report
    opened = tab.tab.opened
    charts = opened.on_charts(opened.on_open(tab.opened, tab.asking)[opened.shown])
    assert [each.visible for each in charts] == [True, False, True, True, True, True]


def test_it_can_be_stopped_and_goes_on_where_it_was(
    tab: Tab, bench: Bench, questions: Path
) -> None:
    held = Held()
    bench.here.answering = held  # type: ignore[assignment]
    tab.start(files=[str(questions)])
    panel = tab.follow("0 of 8 prompts · loading")
    assert 'class="dot"' in panel
    assert held.begun.wait(20)
    tab.tab.on_stop(tab.asking)
    assert "Stopping at" in tab.follow("Stopping")
    held.free.set()
    panel = tab.follow("Stopped at")
    assert "Resume in the list goes on with benchmark 1" in panel
    assert 'data-act="resume"' in tab.shown["bench-earlier"]
    bench.here.answering = answer
    tab.act("resume", 1)
    assert tab.going == 1
    tab.follow("finished")
    answers = bench.workspace.store.benchmarks.answers(1)
    assert len(answers) == len({each.asked for each in answers}) == 8


def test_another_browser_tab_sees_what_goes_on_and_may_stop_it(
    tab: Tab, bench: Bench, questions: Path
) -> None:
    held = Held()
    bench.here.answering = held  # type: ignore[assignment]
    tab.start(files=[str(questions)])
    assert held.begun.wait(20)
    tab.session = "reloaded"
    shown = tab.show()
    assert tab.going == 1
    assert shown["bench-live"].count('class="dot"') == 1
    assert "going on" in shown["bench-earlier"]
    assert "data-act" not in shown["bench-earlier"]
    assert "going on already: stop it first" in tab.start(files=[str(questions)])["bench-notice"]
    tab.tab.on_stop(tab.asking)
    held.free.set()
    tab.follow("Stopped at")


def test_it_waits_in_the_line_of_the_page_and_can_be_stopped_there(
    tab: Tab, questions: Path
) -> None:
    with tab.runs.turn.taken(Event()):
        tab.start(files=[str(questions)])
        tab.follow("Waiting for the device, number 1")
        tab.tab.on_stop(tab.asking)
        tab.follow("Stopped at 0 of 8")
    tab.act("resume", 1)
    tab.follow("finished")


def test_medians_are_those_of_the_prompts_so_far(tab: Tab, bench: Bench, questions: Path) -> None:
    asked = 0
    held = Event()

    def fifth_waits(request: GenerationRequest) -> Iterator[DecodeEvent | BaseException]:
        nonlocal asked
        asked += 1
        if asked == 5:
            assert held.wait(20)
        yield from answer(request)

    bench.here.answering = fifth_waits  # type: ignore[assignment]
    tab.start(files=[str(questions)])
    panel = tab.follow("4 of 8 prompts")
    assert "Medians so far: mine.jsonl, 1 at a time" in panel
    # AR: two tokens after the first in 0.5 s; DFlash: the same two in one step of 0.25 s.
    assert '<th scope="row">AR</th><td class="number">1</td><td class="number">4.0 tok/s' in panel
    assert '<th scope="row">DFlash</th><td class="number">3</td><td class="number">8.0' in panel
    assert '<td class="number">2.00×</td>' in panel
    held.set()
    tab.follow("finished")


def test_what_goes_wrong_is_said_with_its_cure(tab: Tab, bench: Bench, questions: Path) -> None:
    for asked, words in (
        ({"modes": []}, "Give at least one mode."),
        ({"repetitions": 0}, "repetitions must be a whole number from 1 to 100, not 0."),
        ({"block_sizes": ["<b>"]}, "is no block size: choose one from the list."),
        ({"concurrency": ["8"]}, "decodes one request at a time on this machine"),
        ({"datasets": ["/etc/passwd.jsonl"]}, "was not given"),
        ({"datasets": ["nothing"]}, "Unknown dataset"),
    ):
        shown = tab.start(**{"files": [str(questions)]} | asked)
        assert words in shown["bench-notice"], asked
        assert "<b>" not in shown["bench-notice"]
    bench.here.answering = lambda request: [GenerationFailed("The device is lost.")]
    tab.start(files=[str(questions)])
    panel = tab.follow("Ended at")
    assert "The device is lost." in panel
    assert 'data-act="resume"' in tab.shown["bench-earlier"]


def test_an_error_belongs_to_its_attempt(tab: Tab, bench: Bench, questions: Path) -> None:
    failing = [GenerationFailed("The device is lost.")]
    for leave in (
        lambda: tab.act("open", 1),
        lambda: tab.note(tab.tab.on_pair(tab.asking)),
        tab.reload,
    ):
        bench.here.answering = lambda request: failing
        tab.start(files=[str(questions)])
        assert "The device is lost." in tab.follow("Ended at")
        assert "The device is lost." in tab.show()["bench-live"]
        assert "The device is lost." not in leave()["bench-live"]
        assert "The device is lost." not in tab.show()["bench-live"]
    assert "Give at least one" in tab.start(modes=[])["bench-notice"]
    assert tab.note(tab.tab.on_pair(tab.asking))["bench-notice"] == ""


def test_what_is_asked_is_said_beside_every_total(tab: Tab, questions: Path) -> None:
    with tab.runs.turn.taken(Event()):
        tab.start(files=[str(questions)])
        assert "3 questions = 4 turns × 2 methods" in tab.follow("Waiting for the device")
    tab.follow("finished")
    assert "8 of 8 (3 questions = 4 turns × 2 methods)" in tab.shown["bench-earlier"]
    report = tab.open()["bench-report"]
    assert "3 questions = 4 turns × 2 methods" in report
    assert "questions: all 3 of mine.jsonl" in report
    assert "Few prompts: the figures are rough." in report


def test_own_questions_are_counted_at_once_and_a_wrong_line_is_named(
    tab: Tab, questions: Path, tmp_path: Path
) -> None:
    assert "3 questions were read" in tab.tab.on_files([str(questions)])
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "One?"}\n{"prompt": \n')
    told = tab.tab.on_files([str(broken)])
    assert "broken.jsonl, line 2: it is not JSON" in told
    assert str(tmp_path) not in told
    gone = tab.tab.on_files([str(tmp_path / "gone.jsonl")])
    assert "gone.jsonl is no file" in gone
    assert str(tmp_path) not in gone
    assert tab.tab.on_files(None) == ""
    assert "line 2" in tab.start(files=[str(broken)])["bench-notice"]


def test_a_hostile_name_is_inert_everywhere(tab: Tab, questions: Path) -> None:
    named = questions.with_name(HOSTILE)
    named.write_text('{"id": "<script>", "prompt": "<b>${alert(3)}"}\n')
    assert "<img" not in tab.command(files=[str(named)])["bench-asked-command"]
    tab.start(files=[str(named)])
    tab.follow("finished")
    tab.open()
    for place in ("bench-live", "bench-earlier", "bench-report", "bench-command"):
        assert "<img" not in tab.shown[place]
        assert "<script>" not in tab.shown[place]
    assert "&lt;img src=x" in tab.shown["bench-report"]


def test_it_is_deleted_with_its_runs_only_after_a_question(tab: Tab, questions: Path) -> None:
    tab.start(files=[str(questions)])
    tab.follow("finished")
    asked = tab.act("delete", 1)
    assert "Delete benchmark 1 with all its runs?" in asked["bench-question"]
    tab.note(tab.tab.deletion.on_keep())
    assert tab.workspace.store.count_runs() == 8
    assert "is deleted" in tab.note(tab.tab.deletion.on_confirm(1, tab.asking))["bench-question"]
    assert tab.workspace.store.count_runs() == 0
    tab.note(tab.tab.on_deleted(tab.opened, (), tab.asking))
    assert tab.opened is None
    assert "No benchmark yet" in tab.shown["bench-earlier"]
    told = tab.note(tab.tab.deletion.on_confirm(1, tab.asking))["bench-question"]
    assert "no benchmark 1" in told


def test_on_a_page_that_others_reach_nothing_is_deleted(bench: Bench, questions: Path) -> None:
    tab = Tab(bench.workspace, local=False)
    tab.start(files=[str(questions)])
    tab.follow("finished")
    assert 'data-act="open"' in tab.shown["bench-earlier"]
    assert 'data-act="delete"' not in tab.shown["bench-earlier"]
    told = tab.note(tab.tab.deletion.on_confirm(1, tab.asking))["bench-question"]
    assert "open the page there" in told
    assert tab.workspace.store.benchmarks.get(1).num_answered == 8


def test_what_was_measured_can_be_taken_along(tab: Tab, questions: Path) -> None:
    opened = tab.tab.opened
    assert opened.on_json(None) is None
    tab.start(files=[str(questions)])
    tab.follow("finished")
    shown = opened.on_open(tab.opened, tab.asking)[opened.shown]
    as_json, as_csv, as_markdown = (
        Path(write(shown) or "") for write in (opened.on_json, opened.on_csv, opened.on_markdown)
    )
    assert as_json.name == "benchmark-1.json"
    assert read_results(as_json) == shown.results
    assert json.loads(as_json.read_text())["plan"]["pair"] == "embedded"
    assert as_csv.read_text().startswith("dataset,method")
    assert as_markdown.read_text().startswith("# Benchmark 1: embedded")


def test_the_command_measures_the_same(tab: Tab, questions: Path) -> None:
    shown = tab.command(datasets=["bundled"], num_prompts=4, thinking="off")
    assert (
        "dflash-app benchmark --pair embedded --dataset bundled --prompts 4 --mode ar,dflash "
        "--thinking off --max-new-tokens 64 --warm-up 0 --backend torch"
    ) in shown["bench-asked-command"]
    assert "Give at least one mode" in tab.command(modes=[])["bench-notice"]


def test_the_boxes_follow_the_pair(tab: Tab) -> None:
    follow = tab.tab.form.follows_pair
    from dflash_plugins.benchmark.form import offer_for_pair

    def offered(pair: str) -> dict[str, dict[str, object]]:
        updates = offer_for_pair(tab.workspace, pair, ["auto", "8"], "auto", "mtp")
        return {widget.elem_id: update for widget, update in zip(follow, updates, strict=True)}

    here, there, plain = offered("embedded"), offered("served"), offered("plain")
    assert here["bench-concurrency"]["interactive"] is False
    assert here["bench-concurrency"]["value"] == ["1"]
    assert "value" not in here["bench-blocks"]
    assert "value" not in here["bench-baseline"]
    assert there["bench-concurrency"]["interactive"] is True
    assert there["bench-blocks"] | {"choices": 0} == gr.update(
        choices=0, interactive=False, value=["auto"]
    )
    assert [value for _, value in there["bench-baseline"]["choices"]] == ["none", "mtp", "plain"]
    assert [value for _, value in plain["bench-modes"]["choices"]] == ["ar"]
    assert plain["bench-modes"]["value"] == ["ar"]
