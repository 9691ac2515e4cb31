"""The Benchmark tab of a page for strangers: little, and only what is their own."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from threading import Event

import pytest
from dflash_plugins.benchmark.cells import methods
from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.public import PUBLIC_PROMPTS, without_places
from dflash_plugins.benchmark.report import build_report
from dflash_plugins.benchmark.results import to_json
from dflash_plugins.benchmark.shown import render_report

from dflash_app.settings import PublicLimits, Settings
from dflash_app.store.records import RunFilter
from dflash_app.workspace import open_workspace
from tests.plugins.benchmark.bench_tab import Bench as Tab
from tests.plugins.benchmark.conftest import AnsweringBackend
from tests.plugins.benchmark.measured import HERE, cell, results, row
from tests.ui.loops import close_loops

__all__ = ["close_loops"]

ALLOWED = {"datasets": ["bundled"], "num_prompts": 2}


@pytest.fixture
def tab(settings: Settings) -> Iterator[Tab]:
    """As Ann sees it."""
    opened = open_workspace(replace(settings, public=PublicLimits(max_per_hour=3)))
    with closing(replace(opened, _backends={"torch": AnsweringBackend("torch")})) as workspace:
        yield Tab(workspace, local=False, session="ann")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"num_prompts": PUBLIC_PROMPTS + 1}, "at most 4 questions of the set"),
        ({"num_prompts": 0}, "at most 4 questions"),
        ({"datasets": ["gsm8k"]}, "at most 4 questions of the set &#x27;bundled&#x27;"),
        ({"files": ["/tmp/other.jsonl"]}, "at most 4 questions"),
        ({"repetitions": 2}, "once"),
        ({"block_sizes": ["auto", "4", "8"]}, "at most 3 ways of decoding"),
        ({"max_new_tokens": 257}, "max_new_tokens is 257"),
    ],
)
def test_more_than_a_visitor_may_ask_is_refused(
    tab: Tab, asked: dict[str, object], words: str
) -> None:
    assert words in tab.start(**ALLOWED | asked)["bench-notice"]
    assert tab.workspace.store.benchmarks.latest() == []


def test_each_visitor_sees_opens_resumes_and_deletes_only_their_own(tab: Tab) -> None:
    tab.start(**ALLOWED)
    tab.follow("finished")
    assert "Benchmark 1: embedded" in tab.open()["bench-report"]
    owner = tab.tab.page.owner(tab.asking)
    assert tab.workspace.store.count_runs(RunFilter(owner=owner)) > 0
    assert tab.workspace.store.benchmarks.get(1).owner == owner
    tab.session = "bob"
    shown = tab.show()
    assert "No benchmark yet" in shown["bench-earlier"]
    assert "Benchmark 1" not in shown["bench-live"]
    assert "no benchmark 1" in tab.open()["bench-report"]
    assert "no benchmark 1" in tab.act("resume", 1)["bench-notice"]
    told = tab.note(tab.tab.deletion.on_confirm(1, tab.asking))
    assert "no benchmark 1" in told["bench-question"]
    update = tab.tab.comparing.on_compare("1", "1", (), tab.asking)
    assert "no benchmark 1" in [tab.note(each) for each in update][-1]["bench-compared"]
    tab.session = "ann"
    told = tab.note(tab.tab.deletion.on_confirm(1, tab.asking))
    assert "is deleted" in told["bench-question"]


def test_benchmarks_count_against_what_a_visitor_may_begin(tab: Tab) -> None:
    for _ in range(3):
        tab.shown = {}
        tab.start(**ALLOWED)
        tab.follow("finished")
    assert "in the last hour" in tab.start(**ALLOWED)["bench-notice"]


def test_two_visitors_wait_for_each_other_in_one_line(tab: Tab) -> None:
    with tab.runs.turn.taken(Event(), "somebody"):
        tab.start(**ALLOWED)
        tab.follow("number 1 in the queue")
        tab.session, tab.shown = "bob", {}
        tab.start(**ALLOWED)
        tab.follow("number 2 in the queue")
    tab.follow("finished")
    assert tab.tab.benches.of(tab.tab.page.owner(tab.asking)).wait(20)


def test_strangers_see_no_paths_and_no_addresses() -> None:
    plan = Plan(datasets=("bundled",), modes=("ar",))
    failed = row(1, 50.0, finish_reason="failed", error="/home/ann/models/a is gone.")
    served = replace(HERE, backend="remote", device="gpu-box.lan:8000")
    measured = cell(methods(plan)[0], "bundled", [row(0, 50.0), failed], where=served)
    found = without_places(results([measured], plan))
    for told in (to_json(found), render_report(build_report(found, ()))):
        assert "gpu-box" not in told
        assert "/home/ann" not in told
    assert "… is gone." in to_json(found)
