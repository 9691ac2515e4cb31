"""The History tab's events: list, filter, look at, delete after asking, export."""

import csv
import io
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from dflash_app.errors import StoreLocked
from dflash_app.store.runs import Store
from dflash_app.ui.format import UNKNOWN
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace
from tests.fakes import ask
from tests.ui.conftest import StageOpener
from tests.ui.stage import find_handler, texts, two_lanes

EVERYTHING = ["all", "all", "all", ""]


class History:
    """The tab of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.blocks = build_page(workspace, LiveRuns())

    def call(self, name: str, *values: Any) -> dict[str, Any]:
        return texts(find_handler(self.blocks, f"HistoryTab.{name}")(*values))

    def rows(self, *filters: str) -> list[list[Any]]:
        rows: list[list[Any]] = self.call("on_show", *filters)["history-table"]
        return rows

    def choose(self, row: list[Any]) -> dict[str, Any]:
        data = {"index": [0, 0], "value": row[0], "row_value": row}
        return self.call("on_choose", gr.SelectData(None, data))


@pytest.fixture
def history(open_stage: StageOpener) -> History:
    """Three runs: a race, then =danger in a chat."""
    workspace = open_stage(two_lanes)
    loaded = workspace.loaded("scripted")
    list(workspace.race(loaded, [ask(mode="ar"), ask(mode="dflash")]))
    list(workspace.run(loaded, ask("=1+1 <b>bold</b>", mode="ar"), source="chat"))
    return History(workspace)


def test_runs_are_listed_newest_first_with_numbers_as_numbers(history: History) -> None:
    rows = history.rows(*EVERYTHING)
    assert [row[0] for row in rows] == [3, 2, 1]
    assert [row[3] for row in rows] == ["AR", "DFlash", "AR"]
    assert rows[1][4:8] == [12.0, 3.0, 7, "stop"]
    assert rows[0][5] == "–"


def test_filters_narrow_the_table_and_the_charts(history: History) -> None:
    assert [row[0] for row in history.rows("all", "dflash", "all", "")] == [2]
    assert [row[0] for row in history.rows("all", "all", "all", "BOLD")] == [3]
    assert history.rows("nobody", "all", "all", "") == []
    shown = history.call("on_show", "all", "ar", "all", "")
    assert [trace.name for trace in shown["chart-speed"].data if trace.x] == ["AR (no drafter)"]
    assert "No run matches" in history.call("on_show", "all", "all", "failed", "")["history-notice"]


def test_a_chosen_run_is_shown_in_full_and_inert(history: History) -> None:
    shown = history.choose(history.rows(*EVERYTHING)[0])
    assert "=1+1 &lt;b&gt;bold&lt;/b&gt;" in shown["history-detail"]
    assert "bcdefgh" in shown["history-detail"]
    assert shown["state"] == 3
    assert shown["history-delete"].visible is True


def test_a_chosen_run_tells_how_it_was_stored_and_what_is_an_experiment(history: History) -> None:
    store = history.workspace.store
    changes = {"quantization": "nf4", "rollback_kind": "replay", "block_size": 32}
    store.start_run(replace(store.list_runs()[0].start, **changes, trained_block_size=16))
    detail = history.choose(history.rows(*EVERYTHING)[0])["history-detail"]
    assert "nf4 in float32" in detail
    assert "block size 32 (experiment: trained for 16)" in detail
    assert "<dt>Rollback</dt><dd>replay</dd>" in detail


def test_a_chosen_run_tells_its_path_and_its_policy(history: History) -> None:
    store = history.workspace.store
    start = store.list_runs()[0].start
    store.start_run(replace(start, path=None, drafter_path=None, policy=None))
    detail = history.choose(history.rows(*EVERYTHING)[0])["history-detail"]
    assert f"<dt>Path</dt><dd>{UNKNOWN}</dd>" in detail
    assert "drafts" not in detail
    paths = {"path": "static cache", "drafter_path": "dynamic cache: DFlash 2"}
    store.start_run(replace(start, **paths, mode="dflash", policy="adaptive"))
    detail = history.choose(history.rows(*EVERYTHING)[0])["history-detail"]
    assert "<dt>Path</dt><dd>static cache, drafter dynamic cache: DFlash 2</dd>" in detail
    assert ", adaptive drafts" in detail
    csv_file = io.StringIO(history.call("on_export", *EVERYTHING)["history-csv"], newline="")
    exported = next(csv.DictReader(csv_file))
    assert (exported["path"], exported["policy"]) == ("static cache", "adaptive")


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
    store.start_run(replace(store.list_runs()[0].start, **sampling))
    assert f"<dd>{shown}</dd>" in history.choose(history.rows(*EVERYTHING)[0])["history-detail"]
    rows = csv.DictReader(
        io.StringIO(history.call("on_export", *EVERYTHING)["history-csv"], newline="")
    )
    exported = next(rows)
    assert {name: float(exported[name]) for name in sampling} == sampling


def test_a_run_is_deleted_only_after_asking(history: History) -> None:
    history.choose(history.rows(*EVERYTHING)[0])
    asked = history.call("on_ask")
    assert asked["history-confirm"].visible is True
    assert history.workspace.store.count_runs() == 3
    shown = history.call("on_delete", 3, *EVERYTHING)
    assert [row[0] for row in shown["history-table"]] == [2, 1]
    assert "Run 3 is deleted." in shown["history-notice"]
    assert shown["state"] is None


def test_a_run_that_is_gone_is_told(history: History) -> None:
    row = history.rows(*EVERYTHING)[0]
    history.workspace.store.delete_runs([3])
    assert "no longer in the log" in history.choose(row)["history-detail"]
    assert "is gone" in history.call("on_delete", 3, *EVERYTHING)["history-notice"]


def test_the_export_holds_every_figure_and_no_formula(history: History) -> None:
    text = history.call("on_export", *EVERYTHING)["history-csv"]
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["id"] for row in rows] == ["3", "2", "1"]
    assert rows[0]["prompt"] == "'=1+1 <b>bold</b>"
    assert rows[1]["decode_tok_s"] == "12.0"
    assert rows[0]["mean_acceptance_length"] == ""


def test_a_log_that_cannot_be_read_is_one_sentence(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise StoreLocked("The run database is locked: close the other program.")

    for name in ("list_runs", "get_run", "delete_runs"):
        monkeypatch.setattr(Store, name, locked)
    told = "The run database is locked: close the other program."
    assert told in history.call("on_show", *EVERYTHING)["history-notice"]
    assert told in history.call("on_export", *EVERYTHING)["history-notice"]
    assert told in history.call("on_delete", 3, *EVERYTHING)["history-notice"]
    assert told in history.choose([3])["history-detail"]


def test_half_a_surrogate_pair_in_a_prompt_hides_no_run(history: History) -> None:
    start = history.workspace.store.list_runs()[0].start
    messages = ({"role": "user", "content": "half \ud800"},)
    history.workspace.store.start_run(replace(start, messages=messages))
    assert history.rows(*EVERYTHING)[0][-1] == "half ?"
    assert "half ?" in history.call("on_export", *EVERYTHING)["history-csv"]
    assert "half ?" in history.choose(history.rows(*EVERYTHING)[0])["history-detail"]


def test_an_empty_log_says_what_will_be_here(open_stage: StageOpener) -> None:
    shown = History(open_stage(two_lanes)).call("on_show", *EVERYTHING)
    assert shown["history-table"] == []
    assert "recorded here" in shown["history-notice"]
    assert "yet" in shown["chart-speed"].layout.annotations[0].text
