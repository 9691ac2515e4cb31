"""The History tab's table: list, filter, sort, turn pages, look at one run."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dflash_app.errors import StoreLocked
from dflash_app.store.overview import Overview
from dflash_app.store.runs import Store
from dflash_app.ui.format import UNKNOWN
from tests.plugins.history_tab import History, add_run, history, owned_by, part
from tests.ui.conftest import StageOpener
from tests.ui.stage import two_lanes, visitor

__all__ = ["history"]


def test_runs_are_listed_newest_first_with_their_figures(history: History) -> None:
    assert history.rows() == [3, 2, 1]
    table = history.shown["history-table"]
    assert '<td class="number">12.0</td><td class="number">3.00</td><td class="number">7</td>' in (
        table
    )
    assert "1 to 3 of 3 runs" in table


def test_filters_narrow_the_table(history: History) -> None:
    start = history.workspace.store.list_runs()[0].start
    day = {"started_at": datetime(2026, 5, 2, 12, tzinfo=UTC), "backend": "mlx", "task": "GSM8K"}
    history.workspace.store.start_run(replace(start, **day))
    assert history.rows(mode="dflash") == [2]
    assert "<span>1 run</span>" in history.shown["history-table"]
    assert history.rows(text="BOLD") == [4, 3]
    assert history.rows(source="race") == [2, 1]
    assert history.rows(end="running", backend="mlx", task="GSM8K") == [4]
    assert history.rows(since="2026-05-02", until="2026-05-02") == [4]
    assert history.rows(until="2026-05-01") == []
    assert "No run matches" in history.shown["history-notice"]


def test_boxes_offer_what_occurs_in_the_log(history: History) -> None:
    add_run(history.workspace, pair="removed", backend="mlx", task="GSM8K")
    shown = history.show()
    offered = {name: [value for _, value in shown[f"history-{name}"].choices] for name in
               ("pair", "backend", "source", "task")}  # fmt: skip
    assert offered == {
        "pair": ["all", "removed", "scripted"],
        "backend": ["all", "mlx", "script"],
        "source": ["all", "chat", "race"],
        "task": ["all", "GSM8K"],
    }


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "0001-01-01x"])
def test_a_day_that_is_none_is_refused_with_an_example(history: History, day: str) -> None:
    assert "write it as 2026-11-21" in history.show(since=day)["history-notice"]


def test_a_column_sorts_all_pages_and_again_the_other_way(history: History) -> None:
    for speed in (5.0, None, 20.0):
        add_run(history.workspace, speed=speed)
    history.show()
    history.act(sort="speed")
    assert history.table() == [6, 2, 4, 3, 1, 5]
    assert 'aria-sort="descending" class="number"' in history.shown["history-table"]
    history.act(sort="speed")
    assert history.table() == [3, 1, 4, 2, 6, 5]
    history.act(sort="no such column")
    assert history.table() == [3, 1, 4, 2, 6, 5]


def test_pages_turn_within_what_is_there(history: History) -> None:
    for _ in range(100):
        add_run(history.workspace)
    assert history.rows() == list(range(103, 53, -1))
    history.act(page=2)
    assert history.table() == [3, 2, 1]
    assert "101 to 103 of 103 runs" in history.shown["history-table"]
    history.act(page=99)
    assert history.table() == [3, 2, 1]
    assert history.rows(mode="dflash") == [2], "another filter begins at its first page"


def test_a_chosen_run_is_shown_in_full_and_inert(history: History) -> None:
    history.show()
    assert history.shown["history-delete"].visible is False
    shown = history.act(open=3)
    assert "=1+1 &lt;b&gt;bold&lt;/b&gt;" in shown["history-detail"]
    assert "bcdefgh" in shown["history-detail"]
    assert shown["history-delete"].visible is True
    assert "<b>bold" not in history.shown["history-table"]


def test_a_chosen_run_tells_everything_that_is_recorded(history: History) -> None:
    changes: dict[str, Any] = {
        "quantization": "nf4", "rollback_kind": "replay", "block_size": 32, "task": "GSM8K",
        "trained_block_size": 16, "path": "static cache", "drafter_path": "dynamic cache: DFlash 2",
        "mode": "dflash", "policy": "adaptive", "stop": ("END",), "thinking": "off",
        "target_revision": "0123456789abcdef", "hardware": {"cpu": "A <b>CPU</b>", "cores": 2},
    }  # fmt: skip
    store = history.workspace.store
    store.start_run(replace(store.list_runs()[0].start, **changes))
    detail = history.act(open=4)["history-detail"]
    for label, value in (
        ("Ran on", "script, cpu, nf4 in float32"),
        ("Block size", "32 (experiment: trained for 16)"),
        ("Rollback", "replay"), ("Task", "GSM8K"), ("Drafts", "adaptive"), ("Thinking", "off"),
        ("Path", "static cache, drafter dynamic cache: DFlash 2"),
        ("Stop texts", "&#x27;END&#x27;"),
        ("Revisions", "0123456789ab"), ("End", "running"), ("CPU", "A &lt;b&gt;CPU&lt;/b&gt;"),
    ):  # fmt: skip
        assert f"<dt>{label}</dt><dd>{value}</dd>" in detail
    drafted = history.act(open=2)["history-detail"]
    assert "<dt>Acceptance by position</dt><dd>100 % · 100 % · 0 %</dd>" in drafted
    assert "<dt>Steps by accepted drafts</dt><dd>2: 2</dd>" in drafted


def test_a_run_of_an_old_version_tells_what_is_not_known(history: History) -> None:
    store = history.workspace.store
    start = replace(store.list_runs()[0].start, path=None, drafter_path=None, policy=None)
    detail = history.act(open=store.start_run(start))["history-detail"]
    assert f"<dt>Path</dt><dd>{UNKNOWN}</dd>" in detail
    assert "Drafts" not in detail


@pytest.mark.parametrize(
    ("sampling", "shown"),
    [
        ({}, "greedy"),
        ({"repetition_penalty": 1.1}, "greedy, repetition penalty 1.1"),
        (
            {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.05, "seed": 3},
            "temperature 0.5, top-p 0.9, top-k 7, min-p 0.05, seed 3",
        ),
    ],
)
def test_a_chosen_run_tells_how_its_tokens_were_chosen(
    history: History, sampling: dict[str, Any], shown: str
) -> None:
    store = history.workspace.store
    run_id = store.start_run(replace(store.list_runs()[0].start, **sampling))
    assert f"<dd>{shown}</dd>" in history.act(open=run_id)["history-detail"]


def test_a_run_that_is_gone_is_told(history: History) -> None:
    history.show()
    history.workspace.store.delete_runs([3])
    assert "no longer in the log" in history.act(open=3)["history-detail"]


def test_half_a_surrogate_pair_in_a_prompt_hides_no_run(history: History) -> None:
    start = history.workspace.store.list_runs()[0].start
    messages = ({"role": "user", "content": "half \ud800"},)
    run_id = history.workspace.store.start_run(replace(start, messages=messages))
    assert history.rows()[0] == run_id
    assert "half ?" in history.shown["history-table"]
    assert "half ?" in history.act(open=run_id)["history-detail"]


def test_an_empty_log_says_what_will_be_here(open_stage: StageOpener) -> None:
    history = History(open_stage(two_lanes))
    assert history.show()["history-table"] == ""
    assert "recorded here" in history.shown["history-notice"]
    history.charts()
    for name in part("view").CHARTS:
        assert "yet" in history.shown[f"chart-{name}"].layout.annotations[0].text


def test_a_visitor_sees_own_runs_only_and_nothing_of_the_machine(history: History) -> None:
    own = add_run(history.workspace, owner="me", prompt="mine", pair="second")
    with owned_by("me"):
        assert history.rows() == [own]
        assert "no longer in the log" in history.act(open=3)["history-detail"]
        assert [value for _, value in history.shown["history-pair"].choices] == ["all", "second"]
        history.act(marked=[1, 2], of=[])
        shown = history.call("HistoryTab.on_compare", history.looking, visitor())
        assert "no longer in the log" in shown["history-comparison"]
        speeds = history.charts()["chart-speed"]
        assert [list(trace.x) for trace in speeds.data if trace.x] == [["second"]]
        assert history.shown["history-delete-matching"].visible is False
        assert history.shown["history-database-box"].visible is False


def test_a_log_that_cannot_be_read_is_one_sentence(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise StoreLocked("The run database is locked: close the other program.")

    monkeypatch.setattr(Overview, "page", locked)
    monkeypatch.setattr(Store, "get_run", locked)
    told = "The run database is locked: close the other program."
    assert told in history.show()["history-notice"]
    assert told in history.act(sort="speed")["history-notice"]
    assert told in history.act(open=3)["history-detail"]
    assert told in history.charts()["history-charts-notice"]
