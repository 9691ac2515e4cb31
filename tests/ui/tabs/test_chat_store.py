"""A store that fails: the chat goes on, and no text is lost."""

from typing import Any

import pytest

from dflash_app.errors import StoreLocked
from dflash_app.store.chats import Chats
from dflash_app.store.runs import Store
from tests.ui.conftest import StageOpener
from tests.ui.stage import last, one_reply, texts
from tests.ui.tabs.chat_tab import Chat, heads, opened, said, talk


def locked(*_: Any, **__: Any) -> None:
    raise StoreLocked("The run database is locked.")


def test_a_log_that_cannot_be_read_stops_no_chat(
    open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "list_runs", locked)
    shown = last(Chat(open_stage(one_reply)).send("Go"))
    assert "Finished after" in shown["chat-status"]


def test_a_chat_that_cannot_be_kept_goes_on(
    open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = one_reply()
    chat = Chat(open_stage(lambda: pair))
    for name in ("create", "begin_reply", "load", "list_heads", "withdraw", "link_run"):
        monkeypatch.setattr(Chats, name, locked)
    updates = chat.send("One")
    assert "The conversation is not kept: The run database" in texts(next(updates))["chat-notice"]
    last(updates)
    talk(chat, "Two")
    assert [message.content for message in pair.requests[1].messages] == ["One", "bcdefgh", "Two"]


@pytest.mark.parametrize("refused", [("begin_reply",), ("create",), ("start_run", "finish_run")])
def test_a_reply_that_the_store_refused_stays_is_sent_along_and_is_kept_later(
    open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]
) -> None:
    pair = one_reply()
    chat = Chat(open_stage(lambda: pair))
    if refused != ("create",):
        talk(chat, "Zero")
    before = [turn.content for turn in chat.turns]
    with monkeypatch.context() as failing:
        for name in refused:
            failing.setattr(Chats if hasattr(Chats, name) else Store, name, locked)
        for name in ("put_back", "create"):
            failing.setattr(Chats, name, locked)
        assert "The run database is locked" in last(chat.send("One"))["chat-notice"]
        assert "The run database is locked" in last(chat.send("Two"))["chat-notice"]
    told = [*before, "One", "bcdefgh", "Two", "bcdefgh"]
    assert [turn.content for turn in chat.turns] == told
    shown = last(chat.send("Three"))
    assert said(shown["chat-log"]) == [*told, "Three", "bcdefgh"]
    assert [message.content for message in pair.requests[-1].messages] == [*told, "Three"]
    assert "locked" not in shown["chat-notice"]
    assert said(opened(chat, chat.shown().chat_id, "tab-2")["chat-log"]) == said(shown["chat-log"])
    assert heads(chat) == [told[0]]


def test_a_reply_whose_run_is_recorded_at_its_end_only_is_kept(
    open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_run, first = Store.start_run, iter([locked])

    def locked_at_first(*values: Any) -> int:
        return next(first, start_run)(*values)  # type: ignore[return-value]

    monkeypatch.setattr(Store, "start_run", locked_at_first)
    chat = Chat(open_stage(one_reply))
    last(chat.send("One"))
    (run,) = chat.workspace.store.list_runs()
    kept = chat.workspace.store.chats.load(str(chat.shown().chat_id), None)
    assert kept is not None
    assert (kept.turns[1].run_id, kept.turns[1].content) == (run.id, "bcdefgh")


def test_a_list_that_cannot_be_read_says_so_and_comes_back(
    open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "One")
    with monkeypatch.context() as failing:
        failing.setattr(Chats, "list_heads", locked)
        assert "cannot be read just now" in last(chat.send("Two"))["chat-list-empty"]
    shown = last(chat.send("Three"))
    assert (shown["chat-list-empty"], len(shown["chat-list"].choices)) == ("", 1)
