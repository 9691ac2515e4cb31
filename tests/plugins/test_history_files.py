"""Runs as files and a snapshot of the database: whole, harmless in a spreadsheet, private."""

import csv
import json
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dflash_app.errors import StoreLocked
from dflash_app.store.overview import Overview
from tests.plugins.history_tab import History, add_run, history, owned_by, part, values
from tests.ui.stage import visitor

__all__ = ["history"]


def export(history: History, kind: str, **filters: str) -> Path:
    history.show(**filters)
    press(history, kind)
    return Path(history.shown["history-file"])


def press(history: History, kind: str) -> list[dict[str, Any]]:
    """Press the button beside the table as it is shown; returns what is told meanwhile."""
    asked = (history.looking, history.matching, visitor(), *history.boxes)
    return history.play(f"Files.on_export_{kind}", *asked)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_holds_every_figure_of_what_is_filtered_and_no_formula(history: History) -> None:
    add_run(history.workspace, prompt="\n=cmd", output="@sum", task="-1", pair="=pair")
    path = export(history, "csv")
    assert path.name == "runs.csv"
    found = rows(path)
    assert [row["id"] for row in found] == ["4", "3", "2", "1"]
    assert [found[0][name] for name in ("prompt", "output", "task", "pair")] == [
        "'\n=cmd", "'@sum", "'-1", "'=pair",
    ]  # fmt: skip
    assert found[1]["prompt"] == "'=1+1 <b>bold</b>"
    assert found[2]["decode_tok_s"] == "12.0"
    assert found[1]["mean_acceptance_length"] == ""
    assert [row["id"] for row in rows(export(history, "csv", mode="dflash"))] == ["2"]


def test_json_holds_whole_records(history: History) -> None:
    store = history.workspace.store
    start = replace(store.list_runs()[0].start, messages=({"role": "user", "content": "\ud800 é"},))
    store.start_run(start)
    found = json.loads(export(history, "json").read_text(encoding="utf-8"))
    assert [run["id"] for run in found] == [4, 3, 2, 1]
    assert found[2]["token_ids"] == [1, 2, 3, 4, 5, 6, 7]
    assert found[2]["metrics"]["acceptance_by_position"] == [1.0, 1.0, 0.0]
    assert found[2]["start"]["hardware"]["cores"] == start.hardware["cores"]
    assert found[0]["start"]["messages"][0]["content"] == "? é"
    assert found[0]["finished_at"] is None


def test_ticked_runs_alone_are_exported(history: History) -> None:
    history.show()
    history.tick(3, 1)
    assert [row["id"] for row in rows(export(history, "csv", mode="dflash"))] == ["3", "1"]


def test_no_file_is_written_where_the_boxes_say_something_else_than_the_table(
    history: History,
) -> None:
    history.show()
    history.boxes = values({"text": "bold"})
    last = press(history, "csv")[-1]
    assert "something else than the table shows" in last["history-file-told"]
    assert last["history-file"] is None
    history.show(text="bold")
    last = press(history, "csv")[-1]
    assert "1 run is in runs.csv (text contains" in last["history-file-told"]
    assert [row["id"] for row in rows(Path(last["history-file"]))] == ["3"]


def test_nothing_that_matches_is_an_empty_list(history: History) -> None:
    assert json.loads(export(history, "json", pair="nobody").read_text()) == []


def test_a_visitor_exports_own_runs_and_no_key(history: History) -> None:
    own = add_run(history.workspace, owner="secret key")
    with owned_by("secret key"):
        text = export(history, "json").read_text()
        history.act(marked=[1, own], of=[])
        ticked = json.loads(export(history, "json").read_text())
    assert [run["id"] for run in json.loads(text)] == [own]
    assert [run["id"] for run in ticked] == [own]
    assert "secret key" not in text


def test_files_are_private_and_go_after_some_minutes(history: History) -> None:
    path = export(history, "csv")
    for folder in (path.parent, path.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    again = export(history, "csv")
    assert path.exists()
    os.utime(path.parent, times=(time.time() - 3600,) * 2)
    export(history, "csv")
    assert not path.exists()
    assert again.exists()


def test_a_long_export_tells_how_it_comes_along(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part("exports"), "_TELL_EVERY", 1)
    told = press(history, "csv")
    assert told[0]["history-file-told"] == ""
    assert "2 of 3 runs" in told[2]["history-file-told"]
    assert "3 runs are in runs.csv (no filter: all runs)." in told[-1]["history-file-told"]


def test_an_export_that_fails_is_one_sentence_and_no_file(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> None:
        def each(*_: Any) -> None:
            raise error

        monkeypatch.setattr(Overview, "each", each)

    for error, said in (
        (StoreLocked("The run database is locked: close it."), "locked: close it"),
        (OSError(28, "No space left on device"), "No space left on device): free some space"),
    ):
        fail(error)
        last = press(history, "csv")[-1]
        assert said in last["history-file-told"]
        assert last["history-file"] is None


def test_the_snapshot_is_a_whole_database(history: History) -> None:
    history.play("Files.on_snapshot", visitor())
    path = Path(history.shown["history-file"])
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as copy:
        assert copy.execute("SELECT count(*) FROM runs").fetchone() == (3,)


def test_the_database_is_shown_to_people_of_this_machine_alone(history: History) -> None:
    path = str(history.workspace.settings.database)
    shown = history.call("Files.on_where", visitor())["history-database"]
    assert f"<code id='history-path' tabindex='0'>{path}</code>" in shown
    assert f"datasette {path}" in shown
    away = History(history.workspace, local=False)
    with owned_by("me"):
        assert history.call("Files.on_where", visitor())["history-database"] == ""
        assert history.play("Files.on_snapshot", visitor())[-1]["history-file"] is None
    assert away.call("Files.on_where", visitor())["history-database"] == ""
    assert away.play("Files.on_snapshot", visitor())[-1]["history-file"] is None
