"""Runs go only after a question that says how many, and only those that it was about."""

from typing import Any

import pytest

from dflash_app.errors import StoreLocked
from dflash_app.metrics import RunMetrics
from dflash_app.store.overview import Overview
from dflash_app.store.runs import Store
from tests.plugins.history_tab import History, add_run, history, owned_by, values
from tests.ui.stage import visitor

__all__ = ["history"]


def ask(history: History, what: str, **filters: str) -> str:
    """Press a button that deletes; returns the question."""
    if filters:
        history.show(**filters)
    seen = [history.looking, visitor()]
    if what == "matching":
        seen = [history.matching, visitor(), *history.boxes]
    return str(history.call(f"RunDeletion.on_ask_{what}", *seen)["history-question"])


def confirm(history: History) -> str:
    shown = history.call(
        "RunDeletion.on_confirm", history.asked, history.looking, history.matching, visitor()
    )
    return str(shown["history-question"])


def test_a_run_is_deleted_only_after_asking(history: History) -> None:
    history.show()
    history.act(open=3)
    assert "Delete run 3 for good?" in ask(history, "run")
    assert history.shown["history-confirm"].visible is True
    assert history.workspace.store.count_runs() == 3
    assert "Run 3 is deleted." in confirm(history)
    assert history.table() == [2, 1]
    assert history.looking.run_id is None
    assert history.shown["history-delete"].visible is False
    assert history.shown["history-confirm"].visible is False


def test_keeping_deletes_nothing_and_forgets_the_question(history: History) -> None:
    history.act(open=3)
    ask(history, "run")
    history.call("RunDeletion.on_keep")
    assert history.asked is None
    assert history.shown["history-question"] == ""
    assert "only for people of this machine" in confirm(history)
    assert history.workspace.store.count_runs() == 3


def test_ticked_runs_of_several_pages_are_counted_and_deleted(history: History) -> None:
    for _ in range(60):
        add_run(history.workspace)
    history.show()
    assert "Tick runs" in ask(history, "chosen")
    history.tick(63, 62)
    history.act(page=1)
    history.tick(1)
    assert "Delete the 3 ticked runs" in ask(history, "chosen")
    assert "Deleted runs: 3." in confirm(history)
    assert history.workspace.store.count_runs() == 60
    assert history.looking.chosen == ()


def test_what_matches_is_counted_and_later_runs_are_spared(history: History) -> None:
    assert "Delete all 2 ended runs for good (Mode: AR)?" in ask(history, "matching", mode="ar")
    later = add_run(history.workspace)
    assert "Deleted runs: 2." in confirm(history)
    assert history.rows() == [later, 2]
    assert "No run matches" in ask(history, "matching", pair="nobody")
    assert history.asked is None


def test_the_answer_is_about_the_filters_that_were_asked_about(history: History) -> None:
    ask(history, "matching", mode="dflash")
    history.show(mode="ar")
    confirm(history)
    assert history.table() == [3, 1], "the table keeps what it shows now"
    assert history.rows() == [3, 1]


def test_nothing_is_asked_where_the_boxes_say_something_else_than_the_table(
    history: History,
) -> None:
    assert history.rows() == [3, 2, 1]
    for text, said in (("bold", "something else than the table shows"), ("", "Delete all 3")):
        history.boxes = values({"text": text})
        assert said in ask(history, "matching")
    history.show(since="no day")
    assert "write it as 2026-11-21" in ask(history, "matching")
    assert history.asked is None
    assert history.shown["history-confirm"].visible is False


def test_a_question_names_the_filters(history: History) -> None:
    assert "3 ended runs for good (no filter: all runs)?" in ask(history, "matching", text=" ")
    asked = ask(history, "matching", text="bold", source="chat", end="length", since="2020-01-01")
    assert "No run matches" in asked
    asked = ask(history, "matching", text="bold", source="chat", until="2100-01-02")
    named = "text contains &#x27;bold&#x27;, Source: chat, To day: 2100-01-02"
    assert f"Delete the one ended run that matches for good ({named})?" in asked


def test_what_is_typed_fills_the_table_without_enter(history: History) -> None:
    box = next(
        each for each in history.blocks.blocks.values()
        if getattr(each, "elem_id", None) == "history-text"
    )  # fmt: skip
    listeners = {
        event.name for event in history.blocks.fns.values() if (box._id, "input") in event.targets
    }
    assert listeners == {"on_show"}


def test_a_run_that_ends_before_the_answer_is_spared(history: History) -> None:
    store = history.workspace.store
    going = store.start_run(store.list_runs()[0].start)
    history.show()
    assert "Delete all 3 ended runs" in ask(history, "matching")
    store.finish_run(going, "stop", output="", token_ids=[], metrics=RunMetrics())
    assert "Deleted runs: 3." in confirm(history)
    assert history.table() == [going]


def test_a_run_that_goes_on_is_spared_and_told(history: History) -> None:
    going = history.workspace.store.start_run(history.workspace.store.list_runs()[0].start)
    history.show()
    history.tick(going, 3)
    ask(history, "chosen")
    assert "Deleted runs: 1. Kept, as they still go on or are gone: 1." in confirm(history)
    history.act(open=going)
    ask(history, "run")
    assert "Nothing was deleted" in confirm(history)
    assert history.rows()[0] == going


def test_whoever_is_not_of_this_machine_deletes_nothing(history: History) -> None:
    history.act(open=3)
    ask(history, "run")
    asked = history.asked
    with owned_by("me"):
        for what in ("run", "chosen", "matching"):
            assert "only for people of this machine" in ask(history, what)
        history.asked = asked
        assert "only for people of this machine" in confirm(history)
    away = History(history.workspace, local=False)
    away.show()
    assert away.act(open=3)["history-delete"].visible is False
    away.asked = asked
    assert "only for people of this machine" in confirm(away)
    assert history.workspace.store.count_runs() == 3


def test_a_log_that_cannot_be_written_is_one_sentence(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise StoreLocked("The run database is locked: close the other program.")

    history.act(open=3)
    ask(history, "run")
    monkeypatch.setattr(Store, "delete_runs", locked)
    monkeypatch.setattr(Overview, "ended", locked)
    assert "close the other program" in confirm(history)
    assert "close the other program" in ask(history, "matching")
