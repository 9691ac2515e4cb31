"""A conversation asked anew: retry, edit, undo and delete lose nothing but what was meant."""

from typing import Any

import gradio as gr
import pytest

from dflash_app.errors import GenerationFailed
from tests.ui.conftest import StageOpener
from tests.ui.stage import PacedPair, find_handler, last, one_reply, texts, visitor
from tests.ui.tabs.chat_tab import Chat, heads, opened, said, talk


def test_retry_answers_the_last_message_again(open_stage: StageOpener) -> None:
    pair = one_reply()
    chat = Chat(open_stage(lambda: pair))
    assert "nothing to retry" in last(chat.retry())["chat-notice"]
    last(chat.send("Again?"))
    last(chat.retry())
    assert [turn.content for turn in chat.turns] == ["Again?", "bcdefgh"]
    assert [message.content for message in pair.requests[1].messages] == ["Again?"]


def test_an_edited_question_is_answered_in_the_place_of_what_stood_behind(
    open_stage: StageOpener,
) -> None:
    pair = one_reply()
    chat = Chat(open_stage(lambda: pair))
    talk(chat, "a", "b", "c")
    shown = last(chat.edit(2, "B <\u2060b>"))
    assert said(shown["chat-log"]) == ["a", "bcdefgh", "B <\u2060b>", "bcdefgh"]
    assert pair.requests[-1].messages[-1].content == "B <b>"
    assert "chat-prompt" not in shown
    for index in (1, 3, 9, -1):
        assert "no longer there" in last(chat.edit(index, "nowhere"))["chat-notice"]
    assert len(chat.turns) == 4


def test_an_edit_that_is_refused_leaves_the_log_as_it_was(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "a")
    shown = last(chat.edit(0, "  "))
    assert "The prompt is empty" in shown["chat-notice"]
    assert said(shown["chat-log"]) == ["a", "bcdefgh"]


@pytest.mark.parametrize("event", ["edit", "retry"])
def test_an_answer_that_fails_before_any_text_gives_back_what_it_was_to_replace(
    open_stage: StageOpener, event: str
) -> None:
    pair = one_reply()
    chat = Chat(open_stage(lambda: pair))
    talk(chat, "One", "Two")
    before = chat.workspace.store.chats.load(str(chat.shown().chat_id), None)
    assert before is not None
    pair.scripts = [[GenerationFailed("The device is gone: restart.")]]
    shown = last(chat.edit(0, "Other") if event == "edit" else chat.retry())
    assert "The device is gone" in shown["chat-notice"]
    assert said(shown["chat-log"]) == ["One", "bcdefgh", "Two", "bcdefgh"]
    assert shown.get("chat-prompt") == ("Other" if event == "edit" else None)
    kept = chat.workspace.store.chats.load(str(chat.shown().chat_id), None)
    assert kept is not None
    assert kept.turns == chat.turns == before.turns


def test_an_edit_left_before_any_text_gives_back_what_it_was_to_replace(
    open_stage: StageOpener,
) -> None:
    pair = PacedPair(one_reply().scripts)
    pair.gate.set()
    chat = Chat(open_stage(lambda: pair))
    talk(chat, "One", "Two")
    conversation = chat.shown()
    pair.gate.clear()
    updates = chat.edit(0, "Other")
    next(updates)
    chat.do("on_clear", "")
    pair.gate.set()
    last(updates)
    kept = chat.workspace.store.chats.load(str(conversation.chat_id), None)
    assert kept is not None
    assert [turn.content for turn in kept.turns] == ["One", "bcdefgh", "Two", "bcdefgh"]


def test_undo_takes_the_last_question_back_into_its_box(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "a", "b")
    shown = chat.do("on_undo", chat.shown(), "")
    assert (said(shown["chat-log"]), shown["chat-prompt"]) == (["a", "bcdefgh"], "b")
    shown = chat.do("on_undo", chat.shown(), "")
    assert (shown["chat-log"], shown["chat-prompt"]) == ([], "a")
    assert "nothing to retry" in chat.do("on_undo", chat.shown(), "")["chat-notice"]
    assert heads(chat) == []


def remove(chat: Chat, asked_at: object, session: str = "tab-1") -> dict[str, Any]:
    event = gr.EventData(None, {"value": asked_at})
    update = texts(
        find_handler(chat.blocks, "on_remove")(chat.shown(session), "", event, visitor())
    )
    chat.conversations[session] = update.get("state", chat.shown(session))
    return update


def test_a_question_is_deleted_with_its_reply_and_the_rest_stays(open_stage: StageOpener) -> None:
    pair = one_reply()
    chat = Chat(open_stage(lambda: pair))
    talk(chat, "a", "b", "c")
    middle = chat.turns[2]
    link = f'<a class="remove-turn" href="#{middle.created_at.isoformat()}"'
    assert link in str(opened(chat, chat.shown().chat_id)["chat-log"])
    shown = remove(chat, middle.created_at.isoformat())
    assert said(shown["chat-log"]) == ["a", "bcdefgh", "c", "bcdefgh"]
    talk(chat, "d")
    assert [each.content for each in pair.requests[-1].messages[::2]] == ["a", "c", "d"]
    for nowhere in (middle.created_at.isoformat(), "x", None, {"a": 1}):
        assert "no longer there" in remove(chat, nowhere)["chat-notice"]
    for turn in chat.turns[::2]:
        shown = remove(chat, turn.created_at.isoformat())
    assert (shown["chat-log"], heads(chat)) == ([], [])


def test_nothing_is_deleted_while_a_reply_is_written(open_stage: StageOpener) -> None:
    pair = PacedPair(one_reply().scripts)
    pair.gate.set()
    chat = Chat(open_stage(lambda: pair))
    talk(chat, "a")
    pair.gate.clear()
    updates = chat.send("b")
    next(updates)
    assert "wait for its end" in remove(chat, chat.turns[0].created_at.isoformat())["chat-notice"]
    pair.gate.set()
    assert said(last(updates)["chat-log"]) == ["a", "bcdefgh", "b", "bcdefgh"]
