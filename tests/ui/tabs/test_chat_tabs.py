"""Browser tabs that share conversations, or leave one in the middle, do not mix them up."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from dflash_app.ui.shell import Page
from tests.fakes import script_of
from tests.ui.conftest import StageOpener
from tests.ui.stage import PacedPair, bar, find_handler, last, one_reply, texts, visitor
from tests.ui.tabs.chat_tab import SETTINGS, Chat, heads, opened, said, talk


def test_a_second_browser_tab_waits_for_the_device(open_stage: StageOpener) -> None:
    pair = PacedPair(one_reply().scripts)
    chat = Chat(open_stage(lambda: pair))
    first = chat.send("First", session="tab-1")
    next(first)
    next(first)
    shown: dict[str, Any] = {}
    second = chat.send("Second", session="tab-2")
    while "Waiting" not in shown.get("chat-status", ""):
        shown |= texts(next(second))
    pair.gate.set()
    assert "Finished" in last(first)["chat-status"]
    assert "Finished" in last(second)["chat-status"]
    assert chat.workspace.store.count_runs() == 2


def test_another_pair_may_be_chosen_while_one_is_running(open_stage: StageOpener) -> None:
    made: list[PacedPair] = []

    def make() -> PacedPair:
        made.append(PacedPair(one_reply().scripts))
        return made[-1]

    chat = Chat(open_stage(make))
    first = chat.send("First", session="tab-1")
    next(first)
    next(first)
    second = chat.send("Second", [*bar("second", "second"), *SETTINGS], session="tab-2")
    next(second)
    next(second)
    assert [pair.name for pair in made] == ["scripted"]
    threading.Timer(0.3, lambda: [pair.gate.set() for pair in made]).start()
    assert "Finished" in last(first)["chat-status"]
    made[0].gate.set()
    for update in second:
        for pair in made:
            pair.gate.set()
        shown = texts(update)
    assert "Finished" in shown["chat-status"]
    assert [pair.name for pair in made] == ["scripted", "second"]


@pytest.mark.parametrize("stopped_before", [False, True])
def test_what_was_cleared_during_a_run_does_not_come_back(
    open_stage: StageOpener, stopped_before: bool
) -> None:
    pair = PacedPair(one_reply().scripts)
    chat = Chat(open_stage(lambda: pair))
    updates = chat.send("Forget me")
    next(updates)
    next(updates)
    if stopped_before:
        chat.stop()
    find_handler(chat.blocks, "on_clear")("", visitor())
    pair.gate.set()
    shown = last(updates)
    assert not {"state", "chat-prompt", "chat-notice"} & set(shown)
    assert shown["chat-log"] == []
    assert "Forget" not in str(shown)
    assert 'class="tok ' not in shown["chat-strip"]
    assert "dot" not in shown["chat-status"]
    assert "Stopping" not in shown["chat-status"]


def test_a_page_that_is_still_loading_does_not_take_a_message_back(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    sending = chat.send("Quick!")
    next(sending)
    find_handler(chat.blocks, "on_load")("", "", visitor())
    assert said(last(sending)["chat-log"]) == ["Quick!", "bcdefgh"]
    assert [turn.content for turn in chat.turns] == ["Quick!", "bcdefgh"]


def test_a_conversation_deleted_in_another_tab_begins_anew(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "Old")
    chat.workspace.store.chats.delete(str(chat.shown().chat_id), None)
    shown = last(chat.send("New"))
    assert said(shown["chat-log"]) == ["New", "bcdefgh"]
    assert heads(chat) == ["New"]


def test_two_tabs_of_one_user_do_not_mix_a_conversation_up(open_stage: StageOpener) -> None:
    pair = PacedPair(one_reply().scripts)
    pair.gate.set()
    chat = Chat(open_stage(lambda: pair))
    talk(chat, "First")
    opened(chat, chat.shown().chat_id, "tab-2")
    last(chat.send("Second, in the other tab", session="tab-2"))
    shown = last(chat.send("Third"))
    assert said(shown["chat-log"])[::2] == ["First", "Second, in the other tab", "Third"]
    pair.gate.clear()
    updates = chat.send("Fourth")
    for _ in range(3):
        next(updates)
    refused = last(chat.send("At once", session="tab-2"))
    assert "being answered in another tab" in refused["chat-notice"]
    assert refused["chat-prompt"] == "At once"
    pair.gate.set()
    assert said(last(updates)["chat-log"])[-2:] == ["Fourth", "bcdefgh"]


def test_another_conversation_opened_during_a_reply_stays_and_the_reply_is_kept(
    open_stage: StageOpener,
) -> None:
    pair = PacedPair(one_reply().scripts)
    pair.gate.set()
    chat = Chat(open_stage(lambda: pair))
    talk(chat, "First")
    first = chat.shown().chat_id
    chat.do("on_clear", "")
    pair.gate.clear()
    updates = chat.send("Second")
    next(updates)
    next(updates)
    opened(chat, first)
    pair.gate.set()
    shown = last(updates)
    assert said(shown["chat-log"]) == ["First", "bcdefgh"]
    assert chat.shown().chat_id == first
    assert heads(chat) == ["Second", "First"]


def test_a_reply_whose_page_is_gone_is_kept_as_far_as_it_came(open_stage: StageOpener) -> None:
    pair = PacedPair([script_of(*[(2,)] * 500)], pause_s=0.01)
    pair.gate.set()
    chat = Chat(open_stage(lambda: pair))
    updates = chat.send("Go on")
    for update in updates:
        if said(texts(update).get("chat-log", []))[-1:] not in ([], ["…"]):
            break
    chat_id = chat.shown().chat_id
    updates.close()  # what Gradio does once the socket is lost
    shown = chat.do("on_load", chat_id, "", session="tab-2")
    text = said(shown["chat-log"])[-1]
    assert 1 <= len(text) < 500
    assert "stopped" in shown["chat-log"][-1]["content"][0]["text"]


def test_nobody_sees_the_conversations_of_another_visitor(
    open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Page, "owner", lambda _, request: request.session_hash)
    chat = Chat(open_stage(one_reply))
    talk(chat, "Private")
    chat_id = chat.shown().chat_id
    assert [run.start.owner for run in chat.workspace.store.list_runs()] == ["tab-1"]
    for name in ("on_load", "on_open"):
        shown = chat.do(name, chat_id, "", session="tab-2")
        assert (shown["chat-log"], shown["chat-list"].choices) == ([], [])
    stolen = replace(chat.shown("tab-2"), chat_id=chat_id)
    for name in ("on_markdown", "on_json"):
        assert "chat-file" not in texts(find_handler(chat.blocks, name)(stolen, visitor("tab-2")))
    chat.do("on_delete", stolen, "", session="tab-2")
    assert said(chat.do("on_load", chat_id, "")["chat-log"]) == ["Private", "bcdefgh"]


def test_stop_before_any_text_takes_nothing_that_another_tab_asked_meanwhile(
    open_stage: StageOpener,
) -> None:
    pair = PacedPair(one_reply().scripts)
    chat = Chat(open_stage(lambda: pair))
    first = chat.send("First")
    next(first)
    chat_id = chat.shown().chat_id
    opened(chat, chat_id, "tab-2")
    second = chat.send("Second", session="tab-2")
    next(second)
    chat.stop()
    pair.gate.set()
    shown = last(first)
    assert shown["chat-prompt"] == "First"
    last(second)
    assert said(opened(chat, chat_id)["chat-log"]) == ["Second", "bcdefgh"]
