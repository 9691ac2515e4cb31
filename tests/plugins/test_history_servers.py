"""The History tab with runs on servers: told as such in the table, the detail, and the files."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from dflash_app.store.records import RunFilter
from tests.fakes import ScriptedServerPair, ask, server_script_of
from tests.plugins.history_tab import History, part
from tests.ui.conftest import StageOpener
from tests.ui.stage import COUNTS, add_server, one_reply, visitor

SHARED = replace(COUNTS, source="vLLM /metrics", shared=True)


@pytest.fixture
def history(open_stage: StageOpener) -> History:
    """A plain run on a server, and one whose acceptance is a count of the whole server."""
    scripts = [server_script_of((1,), (2,), (3,)), server_script_of((1,), (2, 3), counts=SHARED)]
    workspace = add_server(open_stage(one_reply), lambda: ScriptedServerPair(scripts))
    list(workspace.race(workspace.loaded("served"), [ask(mode="ar"), ask()]))
    return History(workspace)


def test_rows_say_that_a_server_ran_and_that_a_count_is_shared(history: History) -> None:
    assert history.rows() == [2, 1]
    drawn = history.shown["history-table"]
    assert "<td>DFlash, server</td>" in drawn
    assert "3.00 (shared)" in drawn
    assert history.rows(backend="remote") == [2, 1]
    assert history.rows(backend="script") == []


def test_the_detail_says_where_how_and_by_whom_it_was_measured(history: History) -> None:
    history.show()
    detail = history.act(open=2)["history-detail"]
    assert "remote, gpu-box:8000<" in detail
    assert "vLLM 0.32.0" in detail
    assert "Times were measured at the client" in detail
    assert "a count of the whole server (vLLM /metrics)" in detail
    assert "Rollback" not in detail
    history.act(open=1)
    assert "acceptance" not in history.shown["history-detail"].split("Counted")[1].split("</dd>")[0]


def test_two_runs_of_a_server_are_compared_by_their_tokens_or_texts(history: History) -> None:
    history.rows()
    history.tick(1, 2)
    history.call("HistoryTab.on_compare", history.looking, visitor())
    drawn = history.shown["history-comparison"]
    assert ">Mode</th><td>AR</td><td>DFlash</td>" in drawn
    assert "The texts are the same" in drawn
    assert "2.00×" in drawn


def test_files_hold_the_new_columns(history: History, tmp_path: Any) -> None:
    runs = history.workspace.store.list_runs(RunFilter())
    path = tmp_path / "runs.csv"
    list(part("exports").write_runs("csv", runs, path))
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [(row["backend"], row["device"], row["at_client"]) for row in rows] == [
        ("remote", "gpu-box:8000", "True")
    ] * 2
    assert (rows[0]["acceptance_source"], rows[0]["acceptance_shared"]) == ("vLLM /metrics", "True")
    whole = part("exports").as_json(runs[0])
    assert whole["metrics"]["acceptance_source"] == "vLLM /metrics"


def test_speedups_on_servers_are_charted(history: History) -> None:
    charts = history.charts()
    (bars,) = charts["chart-speedup"].data
    assert (list(bars.x), list(bars.y)) == (["served"], [2.0])
