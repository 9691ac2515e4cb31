"""The Chat tab's events, without a browser: a reply streams, stops, fails, and loses no text."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import gradio as gr
import pytest

from dflash_app.errors import GenerationFailed, StoreLocked
from dflash_app.events import StepDone
from dflash_app.store.chat_records import Turn
from dflash_app.store.chats import Chats
from dflash_app.store.runs import Store
from dflash_app.ui.chat_conversation import Conversation
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import Page, build_page
from dflash_app.workspace import Workspace
from tests.fakes import ScriptedPair, script_of
from tests.ui.conftest import StageOpener
from tests.ui.stage import (
    SAMPLING,
    PacedPair,
    bar,
    find_handler,
    last,
    one_reply,
    play,
    texts,
    visitor,
)

SETTINGS = [*SAMPLING, True, ""]
"""Values of the sampling controls, of the switch for colours and of the search box."""


def said(bubbles: list[dict[str, Any]]) -> list[str]:
    """What the bubbles of the log say, without the line below a reply."""
    shown = [bubble["content"][0]["text"] for bubble in bubbles]
    return [text.partition("\n\n<small")[0] for text in shown]


class Chat:
    """The tab of one workspace, driven as browser tabs would, each with a conversation of its own.

    Attributes:
        conversations: what each browser tab shows.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.blocks = build_page(workspace, LiveRuns())
        assert [each for each in workspace.plugins.problems if each.name == "tab Chat"] == []
        self.conversations: dict[str, Conversation] = {}

    def shown(self, session: str = "tab-1") -> Conversation:
        return self.conversations.get(session, Conversation())

    @property
    def turns(self) -> tuple[Turn, ...]:
        return self.shown().turns

    def send(
        self, text: str, values: list[Any] | None = None, session: str = "tab-1"
    ) -> Iterator[dict[Any, Any]]:
        asked = [text, self.shown(session), visitor(session), *(values or [*bar(), *SETTINGS])]
        yield from self._keep(session, play(self.blocks, "on_send", *asked))

    def retry(self) -> Iterator[dict[Any, Any]]:
        asked = [self.shown(), visitor(), *bar(), *SETTINGS]
        yield from self._keep("tab-1", play(self.blocks, "on_retry", *asked))

    def edit(self, index: int, text: str) -> Iterator[dict[Any, Any]]:
        event = gr.EditData(None, {"index": index, "value": text, "previous_value": ""})
        asked = [self.shown(), event, visitor(), *bar(), *SETTINGS]
        yield from self._keep("tab-1", play(self.blocks, "on_edit", *asked))

    def stop(self, session: str = "tab-1") -> None:
        find_handler(self.blocks, "on_stop")(visitor(session))

    def do(self, name: str, *values: Any, session: str = "tab-1") -> dict[str, Any]:
        """What an event that is no flow shows."""
        update = texts(find_handler(self.blocks, name)(*values, visitor(session)))
        self.conversations[session] = update.get("state", self.shown(session))
        return update

    def _keep(self, session: str, updates: Iterator[dict[Any, Any]]) -> Iterator[dict[Any, Any]]:
        for update in updates:
            self.conversations[session] = texts(update).get("state", self.shown(session))
            yield update


def test_a_reply_is_shown_kept_and_recorded(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    shown = last(chat.send("How many?"))
    assert said(shown["chat-log"]) == ["How many?", "bcdefgh"]
    assert [(turn.role, turn.content) for turn in chat.turns] == [
        ("user", "How many?"), ("assistant", "bcdefgh"),
    ]  # fmt: skip
    assert shown["chat-prompt"] == ""
    assert "12.0 tok/s" in shown["chat-cards"]
    assert "Finished after 1.00 s." in shown["chat-status"]
    assert 'class="tok accepted' in shown["chat-strip"]
    (run,) = chat.workspace.store.list_runs()
    assert (run.start.source, run.finish_reason, run.output) == ("chat", "stop", "bcdefgh")


def test_the_conversation_so_far_is_sent_along(open_stage: StageOpener) -> None:
    pair = one_reply()
    chat = Chat(open_stage(lambda: pair))
    last(chat.send("First?"))
    last(chat.send("Second?"))
    assert [message.content for message in pair.requests[1].messages] == [
        "First?", "bcdefgh", "Second?",
    ]  # fmt: skip


def test_speedup_is_known_after_a_plain_run(open_stage: StageOpener) -> None:
    slow = [script_of((2,), (3,), (4,))]
    scripts = iter([slow, one_reply().scripts])
    pair = ScriptedPair(slow)
    chat = Chat(open_stage(lambda: pair))
    pair.scripts = next(scripts)
    plain = last(chat.send("x", [*bar(drafter="none"), *SETTINGS]))
    assert "×" not in plain["chat-cards"]
    pair.scripts = next(scripts)
    assert "3.00×" in last(chat.send("x"))["chat-cards"]
    assert [request.mode for request in pair.requests] == ["ar", "dflash"]


@pytest.mark.parametrize("text", ["", "  \n ", None])
def test_an_empty_prompt_is_refused_kindly_and_starts_nothing(
    open_stage: StageOpener, text: str
) -> None:
    chat = Chat(open_stage(one_reply))
    shown = last(chat.send(text))
    assert "The prompt is empty: type a question first." in shown["chat-notice"]
    assert "chat-log" not in shown
    assert chat.workspace.store.count_runs() == 0


def test_a_missing_pair_is_explained_and_the_text_stays(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    shown = last(chat.send("Keep me", [*bar("absent", "absent"), *SETTINGS]))
    assert "dflash-app hub pull absent" in shown["chat-notice"]
    assert shown["chat-prompt"] == "Keep me"


def test_a_reply_ends_with_what_the_load_and_the_block_size_mean(open_stage: StageOpener) -> None:
    pair = one_reply()
    pair.warnings = ("In <b>int8</b>, near ties may differ.",)
    chat = Chat(open_stage(lambda: pair))
    shown = last(
        chat.send("x", ["scripted", "scripted", "32", "auto", "auto", "script", *SETTINGS])
    )["chat-notice"]
    assert "In &lt;b&gt;int8&lt;/b&gt;, near ties may differ." in shown
    assert "Block size 32 is an experiment, as this drafter was trained for 4" in shown


def test_what_the_engine_tells_of_drafts_is_shown_where_it_happened(
    open_stage: StageOpener,
) -> None:
    script = script_of((2, 3, 4), (5, 6, 7), num_draft=3)
    told = "AR fallback: drafting pauses, as it <i>loses</i> time."
    script[4] = replace(cast(StepDone, script[4]), note=told)
    pair = ScriptedPair([script])
    chat = Chat(open_stage(lambda: pair))
    shown = last(chat.send("x", [*bar(), *SAMPLING[:-1], "adaptive", True, ""]))
    assert pair.requests[0].policy == "adaptive"
    assert "after 4 tokens</b> AR fallback: drafting pauses" in shown["chat-notes"]
    assert "&lt;i&gt;loses" in shown["chat-notes"]
    assert ">AR fallback</span>" in shown["chat-strip"]
    assert "Draft length: adaptive, 3.0 tokens a step." in shown["chat-status"]
    assert chat.workspace.store.list_runs()[0].start.policy == "adaptive"


def test_a_failure_before_any_text_gives_the_prompt_back(open_stage: StageOpener) -> None:
    broken = ScriptedPair([[GenerationFailed("Out of <b>memory</b>: choose a smaller pair.")]])
    chat = Chat(open_stage(lambda: broken))
    shown = last(chat.send("Keep me"))
    assert "Out of &lt;b&gt;memory&lt;/b&gt;: choose a smaller pair." in shown["chat-notice"]
    assert shown["chat-prompt"] == "Keep me"
    assert shown["chat-log"] == []
    assert chat.turns == ()
    assert chat.workspace.store.list_runs()[0].finish_reason == "failed"


def test_a_failure_in_the_middle_keeps_what_came(open_stage: StageOpener) -> None:
    script = [*script_of((2, 3), num_draft=3)[:-1], GenerationFailed("The device was lost.")]
    chat = Chat(open_stage(lambda: ScriptedPair([script])))
    shown = last(chat.send("Go"))
    assert "The device was lost." in shown["chat-notice"]
    assert [turn.content for turn in chat.turns] == ["Go", "bcd"]
    assert "×" not in shown["chat-prompt"]


def test_stop_ends_within_a_step_and_keeps_the_text(open_stage: StageOpener) -> None:
    pair = PacedPair([script_of(*[(2,)] * 500)], pause_s=0.01)
    pair.gate.set()
    chat = Chat(open_stage(lambda: pair))
    updates = chat.send("Go on")
    for update in updates:
        if said(texts(update).get("chat-log", []))[-1:] not in ([], ["…"]):
            break
    chat.stop()
    shown = last(updates)
    assert "Stopped." in shown["chat-status"]
    assert 1 <= len(chat.turns[-1].content) < 500
    assert pair.was_closed_early
    assert chat.workspace.store.list_runs()[0].finish_reason == "cancelled"


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


def test_retry_answers_the_last_message_again(open_stage: StageOpener) -> None:
    pair = one_reply()
    chat = Chat(open_stage(lambda: pair))
    assert "nothing to retry" in last(chat.retry())["chat-notice"]
    last(chat.send("Again?"))
    last(chat.retry())
    assert [turn.content for turn in chat.turns] == ["Again?", "bcdefgh"]
    assert [message.content for message in pair.requests[1].messages] == ["Again?"]


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


def test_stop_leaves_the_status_line_to_the_run(open_stage: StageOpener) -> None:
    blocks = Chat(open_stage(one_reply)).blocks
    stops = [fn for fn in blocks.fns.values() if fn.name == "on_stop"]
    assert len(stops) >= 2
    assert [fn.outputs for fn in stops] == [[]] * len(stops)


def test_a_log_that_cannot_be_read_stops_no_chat(
    open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise StoreLocked("The run database is locked.")

    monkeypatch.setattr(Store, "list_runs", locked)
    shown = last(Chat(open_stage(one_reply)).send("Go"))
    assert "Finished after" in shown["chat-status"]


def test_half_a_surrogate_pair_in_a_prompt_can_be_sent_back_to_the_browser(
    open_stage: StageOpener,
) -> None:
    broken = ScriptedPair([[GenerationFailed("Half a pair: type it again.")]])
    for values in (None, [*bar("absent", "absent"), *SETTINGS]):
        updates = Chat(open_stage(lambda: broken)).send("Keep \ud83d", values)
        for shown in map(texts, updates):
            assert "\ud83d" not in str([v for k, v in shown.items() if k != "state"])
            assert shown.get("chat-prompt", "Keep ?") in ("Keep ?", "")


def test_clear_forgets_the_conversation(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    last(chat.send("x"))
    cleared = texts(find_handler(chat.blocks, "on_clear")("", visitor()))
    assert (cleared["chat-log"], cleared["state"]) == ([], Conversation())
    assert chat.workspace.store.count_runs() == 1


def talk(chat: Chat, *questions: str) -> None:
    for question in questions:
        assert "Finished" in last(chat.send(question))["chat-status"]


def heads(chat: Chat) -> list[str]:
    return [head.title for head in chat.workspace.store.chats.list_heads(None)]


def opened(chat: Chat, chat_id: str | None, session: str = "tab-1") -> dict[str, Any]:
    return chat.do("on_open", chat_id, "", session=session)


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


def test_a_page_that_is_still_loading_does_not_take_a_message_back(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    sending = chat.send("Quick!")
    next(sending)
    find_handler(chat.blocks, "on_load")("", "", visitor())
    assert said(last(sending)["chat-log"]) == ["Quick!", "bcdefgh"]
    assert [turn.content for turn in chat.turns] == ["Quick!", "bcdefgh"]


def test_the_settings_of_a_conversation_come_back_with_it(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    values = [99, 0.5, 0.9, 7, 0.1, 1.2, "3", "auto", "END", "Be brief.", "adaptive"]
    last(chat.send("x", [*bar(), *values, True, ""]))
    shown = opened(chat, chat.shown().chat_id)
    names = ["max-tokens", "temperature", "top-p", "top-k", "min-p", "repetition-penalty"]
    names += ["seed", "thinking", "stop-texts", "system", "drafts"]
    assert [shown[f"chat-{name}"] for name in names] == values


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


def test_a_conversation_is_renamed_found_and_deleted(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "Pears")
    chat.do("on_clear", "")
    talk(chat, "Apples")
    renamed = chat.do("on_rename", chat.shown(), "Fruit <b>", "")
    assert renamed["chat-title"] == "Fruit <b>"
    found = chat.do("on_search", chat.shown(), "pear")
    assert [name for name, _ in found["chat-list"].choices] == ["Pears"]
    assert "Nothing was found" in chat.do("on_search", chat.shown(), "plum")["chat-list-empty"]
    asked = texts(find_handler(chat.blocks, "ask")(chat.shown()))
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
    left = chat.do("on_rename", chat.shown(), title, "")
    assert left == {"chat-title": title}


@pytest.mark.parametrize("leave", ["on_open", "on_clear"])
def test_a_question_to_delete_is_not_asked_of_the_conversation_opened_next(
    open_stage: StageOpener, leave: str
) -> None:
    chat = Chat(open_stage(one_reply))
    talk(chat, "Pears")
    chat.do("on_clear", "")
    talk(chat, "Apples")
    (_, pears), *_ = chat.do("on_search", chat.shown(), "pear")["chat-list"].choices
    assert texts(find_handler(chat.blocks, "ask")(chat.shown()))["chat-confirm"].visible
    shown = chat.do(leave, *([pears, ""] if leave == "on_open" else [""]))
    assert not shown["chat-confirm"].visible
    assert (shown["chat-delete"].visible, shown["chat-question"]) == (True, "")


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


def test_a_chat_that_cannot_be_kept_goes_on(
    open_stage: StageOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise StoreLocked("The run database is locked.")

    pair = one_reply()
    chat = Chat(open_stage(lambda: pair))
    for name in ("create", "begin_reply", "load", "list_heads", "truncate", "link_run"):
        monkeypatch.setattr(Chats, name, locked)
    updates = chat.send("One")
    assert "The conversation is not kept: The run database" in texts(next(updates))["chat-notice"]
    last(updates)
    talk(chat, "Two")
    assert [message.content for message in pair.requests[1].messages] == ["One", "bcdefgh", "Two"]


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


def test_a_known_loss_is_told_before_the_reply_comes(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    workspace = chat.workspace
    (pair,) = [each for each in workspace.registry.pairs if each.name == "scripted"]
    known = pair.model_copy(update={"languages": ("en",), "thinking": "off", "trained_context": 4})
    others = tuple(each for each in workspace.registry.pairs if each.name != "scripted")
    workspace.registry = replace(workspace.registry, bundled=(known, *others))
    values = [*SAMPLING[:7], "on", *SAMPLING[8:], True, ""]
    updates = chat.send("这是什么？", [*bar(), *values])
    told = texts(next(updates))["chat-notice"]
    assert "trained with thinking off, and the model now runs with thinking on" in told
    assert "trained on English" in told
    shown = last(updates)
    assert "trained on sequences of 4" in shown["chat-notes"]
    assert "trained" not in last(chat.send("x", [*bar(drafter="none"), *values]))["chat-notes"]


def test_tokens_are_coloured_on_demand(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    assert last(chat.send("x", [*bar(), *SAMPLING, False, ""]))["chat-strip"] == "</div></div>"


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


def test_a_megabyte_is_refused_at_once_and_given_back(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    text = "x" * 1_000_000
    shown = last(chat.send(text))
    assert "1,000,000 characters, more than 400,000" in shown["chat-notice"]
    assert shown["chat-prompt"] == text
    assert chat.workspace.store.chats.list_heads(None) == []
