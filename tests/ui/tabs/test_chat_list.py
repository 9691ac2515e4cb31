"""Conversations are kept, listed, renamed, deleted and handed out, and come back with the page."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from dflash_app.ui.chat_conversation import Conversation
from dflash_app.ui.presets import PRESETS, slider_values
from tests.ui.conftest import StageOpener
from tests.ui.stage import SAMPLING, bar, find_handler, last, one_reply, texts, visitor
from tests.ui.tabs.chat_tab import Chat, heads, opened, said, talk


def test_a_reply_stands_with_its_figures_and_the_conversation_in_the_list(
    open_stage: StageOpener,
) -> None:
    chat = Chat(open_stage(one_reply))
    shown = last(chat.send("How many?"))
    foot = shown["chat-log"][-1]["content"][0]["text"].partition("<small")[2]
    for figure in ("12.0 tok/s", "acceptance 3.00", "first token 500 ms", "7 tokens", "scripted"):
        assert figure in foot
    assert heads(chat) == ["How many?"]
    assert shown["chat-title"] == "How many?"
    assert shown["stored"] == chat.shown().chat_id


def test_a_page_loaded_anew_shows_the_conversation_and_goes_on_with_it(
    open_stage: StageOpener,
) -> None:
    pair = one_reply()
    chat = Chat(open_stage(lambda: pair))
    talk(chat, "First?")
    shown = chat.do("on_load", chat.shown().chat_id, "", session="tab-2")
    assert said(shown["chat-log"]) == ["First?", "bcdefgh"]
    last(chat.send("Second?", session="tab-2"))
    assert [message.content for message in pair.requests[1].messages] == [
        "First?", "bcdefgh", "Second?",
    ]  # fmt: skip
    assert heads(chat) == ["First?"]


@pytest.mark.parametrize("stored", ["", None, "no-such-chat", "' OR 1 --"])
def test_a_browser_without_a_conversation_begins_with_none(
    open_stage: StageOpener, stored: str | None
) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "Somebody's")
    shown = chat.do("on_load", stored, "", session="tab-2")
    assert (shown["chat-log"], shown["stored"], shown["chat-notice"]) == ([], "", "")


def test_the_settings_of_a_conversation_come_back_with_it(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    values = [99, 0.5, 0.9, 7, 0.1, 1.2, "3", "auto", "END", "Be brief.", "adaptive"]
    last(chat.send("x", [*bar(), *values, True, ""]))
    shown = opened(chat, chat.shown().chat_id)
    names = ["max-tokens", "temperature", "top-p", "top-k", "min-p", "repetition-penalty"]
    names += ["seed", "thinking", "stop-texts", "system", "drafts"]
    assert [shown[f"chat-{name}"] for name in names] == values
    assert shown["chat-preset"] == "own"


@pytest.mark.parametrize("preset", ["greedy", "balanced", "creative"])
def test_the_preset_that_set_the_sliders_comes_back_with_them(
    open_stage: StageOpener, preset: str
) -> None:
    chat = Chat(open_stage(one_reply))
    values = [64, *slider_values(PRESETS[preset]), *SAMPLING[6:], True, ""]
    last(chat.send("x", [*bar(), *values]))
    assert opened(chat, chat.shown().chat_id)["chat-preset"] == preset


def test_clear_forgets_the_conversation(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    last(chat.send("x"))
    cleared = texts(find_handler(chat.blocks, "on_clear")("", visitor()))
    assert (cleared["chat-log"], cleared["state"]) == ([], Conversation())
    assert chat.workspace.store.count_runs() == 1


def test_a_conversation_is_renamed_found_and_deleted(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "Pears")
    chat.do("on_clear", "")
    talk(chat, "Apples")
    renamed = renamed_to(chat, "Fruit <b>")
    assert renamed["chat-title"] == "Fruit <b>"
    found = chat.do("on_search", chat.shown(), "pear")
    assert [name for name, _ in found["chat-list"].choices] == ["Pears"]
    assert "Nothing was found" in chat.do("on_search", chat.shown(), "plum")["chat-list-empty"]
    asked = texts(find_handler(chat.blocks, "on_ask")(chat.shown(), visitor()))
    assert "Delete “Fruit &lt;b&gt;”" in asked["chat-question"]
    assert heads(chat) == ["Fruit <b>", "Pears"]
    deleted = chat.do("on_delete", chat.shown(), "")
    assert (deleted["chat-log"], heads(chat)) == ([], ["Pears"])
    assert chat.workspace.store.count_runs() == 2


@pytest.mark.parametrize("title", ["", "Pears"])
def test_leaving_the_box_of_the_title_changes_no_conversation(
    open_stage: StageOpener, title: str
) -> None:
    chat = Chat(open_stage(one_reply))
    if title:
        talk(chat, title)
    assert renamed_to(chat, title) == {"chat-title": title}


def test_a_title_left_for_another_conversation_renames_its_own_and_shows_the_other(
    open_stage: StageOpener,
) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "Pears")
    pears = chat.shown()
    chat.do("on_clear", "")
    talk(chat, "Apples")
    apples = chat.shown()
    opened(chat, pears.chat_id)
    update = chat.do("on_rename", chat.shown(), apples.chat_id, "Green ones", "")
    assert set(update) == {"chat-list"}  # neither text nor title of the one that was left
    assert [name for name, _ in update["chat-list"].choices] == ["Green ones", "Pears"]
    assert "value" not in update["chat-list"].constructor_args
    assert chat.shown() == pears


def test_a_conversation_renamed_while_it_is_answered_keeps_its_title(
    open_stage: StageOpener,
) -> None:
    chat = Chat(open_stage(one_reply))
    updates = chat.send("Pears")
    next(updates)
    renamed_to(chat, "Fruit")
    assert last(updates)["chat-title"] == "Fruit"
    assert heads(chat) == ["Fruit"]


@pytest.mark.parametrize("leave", ["on_open", "on_clear"])
def test_a_question_to_delete_is_not_asked_of_the_conversation_opened_next(
    open_stage: StageOpener, leave: str
) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "Pears")
    chat.do("on_clear", "")
    talk(chat, "Apples")
    (_, pears), *_ = chat.do("on_search", chat.shown(), "pear")["chat-list"].choices
    assert texts(find_handler(chat.blocks, "on_ask")(chat.shown(), visitor()))[
        "chat-confirm"
    ].visible
    shown = chat.do(leave, *([pears, ""] if leave == "on_open" else [""]))
    assert not shown["chat-confirm"].visible
    assert (shown["chat-delete"].visible, shown["chat-question"]) == (True, "")


def test_the_browser_gets_the_conversation_as_a_file(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "What is <b>9</b>?")
    for name, ending in (("on_markdown", ".md"), ("on_json", ".json")):
        file = texts(find_handler(chat.blocks, name)(chat.shown(), visitor()))
        assert file["chat-file-name"] == f"What-is-b-9-b{ending}"
        assert "What is <b>9</b>?" in file["chat-file"]
        assert "bcdefgh" in file["chat-file"]
    empty = texts(find_handler(chat.blocks, "on_json")(Conversation(), visitor()))
    assert "no conversation yet" in empty["chat-question"]


def renamed_to(chat: Chat, title: str) -> dict[str, Any]:
    return chat.do("on_rename", chat.shown(), chat.shown().chat_id, title, "")


def test_a_damaged_conversation_is_marked_and_can_be_deleted(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "Damaged")
    damaged = chat.shown().chat_id
    chat.do("on_clear", "")
    talk(chat, "Whole")
    with closing(sqlite3.connect(chat.workspace.settings.database)) as db:
        db.execute("UPDATE chats SET created_at = 'x' WHERE id = ?", [damaged])
        db.commit()
    shown = opened(chat, damaged)
    assert "is damaged" in shown["chat-notice"]
    assert "delete it; the others are whole" in shown["chat-notice"]
    names = [name for name, _ in shown["chat-list"].choices]
    assert names == ["Whole", "⚠ damaged: Damaged"]
    last(chat.send("Nothing is written behind it"))
    assert chat.shown().chat_id != damaged
    opened(chat, damaged)
    chat.do("on_delete", chat.shown(), "")
    assert heads(chat) == ["Nothing is written behind it", "Whole"]
