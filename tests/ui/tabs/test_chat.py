"""The Chat tab's events, without a browser: a reply streams, stops, fails, and loses no text."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from dflash_app.errors import GenerationFailed, StoreLocked
from dflash_app.events import StepDone
from dflash_app.store.runs import Store
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
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


class Chat:
    """The tab of one workspace, driven as a browser tab would."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.blocks = build_page(workspace, LiveRuns())
        self.turns: list[Any] = []

    def send(
        self, text: str, values: list[Any] | None = None, session: str = "tab-1"
    ) -> Iterator[dict[Any, Any]]:
        asked = [text, self.turns, visitor(session), *(values or [*bar(), *SAMPLING])]
        yield from self._keep(play(self.blocks, "on_send", *asked))

    def retry(self) -> Iterator[dict[Any, Any]]:
        asked = [self.turns, visitor(), *bar(), *SAMPLING]
        yield from self._keep(play(self.blocks, "on_retry", *asked))

    def stop(self, session: str = "tab-1") -> None:
        find_handler(self.blocks, "on_stop")(visitor(session))

    def _keep(self, updates: Iterator[dict[Any, Any]]) -> Iterator[dict[Any, Any]]:
        for update in updates:
            self.turns = texts(update).get("state", self.turns)
            yield update


def test_a_reply_is_shown_kept_and_recorded(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    shown = last(chat.send("How many?"))
    assert [bubble["content"] for bubble in shown["chat-log"]] == ["How many?", "bcdefgh"]
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
    plain = last(chat.send("x", [*bar(drafter="none"), *SAMPLING]))
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
    shown = last(chat.send("Keep me", [*bar("absent", "absent"), *SAMPLING]))
    assert "dflash-app hub pull absent" in shown["chat-notice"]
    assert shown["chat-prompt"] == "Keep me"


def test_a_reply_ends_with_what_the_load_and_the_block_size_mean(open_stage: StageOpener) -> None:
    pair = one_reply()
    pair.warnings = ("In <b>int8</b>, near ties may differ.",)
    chat = Chat(open_stage(lambda: pair))
    shown = last(
        chat.send("x", ["scripted", "scripted", "32", "auto", "auto", "script", *SAMPLING])
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
    shown = last(chat.send("x", [*bar(), *SAMPLING[:-1], "adaptive"]))
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
    assert chat.turns == []
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
        if texts(update).get("chat-log", [{}])[-1].get("content", "…")[:1] == "b":
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
    second = chat.send("Second", [*bar("second", "second"), *SAMPLING], session="tab-2")
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
    find_handler(chat.blocks, "on_clear")(visitor())
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
    assert len(stops) == 2
    assert [fn.outputs for fn in stops] == [[], []]


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
    for values in (None, [*bar("absent", "absent"), *SAMPLING]):
        updates = Chat(open_stage(lambda: broken)).send("Keep \ud83d", values)
        for shown in map(texts, updates):
            assert "\ud83d" not in str([v for k, v in shown.items() if k != "state"])
            assert shown.get("chat-prompt", "Keep ?") in ("Keep ?", "")


def test_clear_forgets_the_conversation(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    last(chat.send("x"))
    cleared = texts(find_handler(chat.blocks, "on_clear")(visitor()))
    assert (cleared["chat-log"], cleared["state"]) == ([], [])
    assert chat.workspace.store.count_runs() == 1
