"""The Chat tab's events, without a browser: a reply streams, stops, fails, and loses no text."""

import threading
from dataclasses import replace
from typing import cast

import pytest

from dflash_app.errors import GenerationFailed
from dflash_app.events import StepDone
from tests.fakes import ScriptedPair, ask, script_of
from tests.ui.conftest import StageOpener
from tests.ui.stage import SAMPLING, PacedPair, bar, last, one_reply, texts
from tests.ui.tabs.chat_tab import SETTINGS, Chat, said


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


def test_loading_tells_how_long_it_takes(open_stage: StageOpener) -> None:
    loaded = threading.Event()

    def load() -> ScriptedPair:
        loaded.wait(10)
        return one_reply()

    told = []
    for update in Chat(open_stage(load)).send("How many?"):
        told.append(texts(update).get("chat-status", ""))
        if "reading the prompt… 1 s" in told[-1]:
            loaded.set()
    assert loaded.is_set(), told
    assert "Finished" in told[-1]


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


@pytest.mark.parametrize(
    ("source", "counts"), [("race", True), ("api", True), ("microscope", True), ("cli", False)]
)
def test_a_plain_run_of_any_place_of_the_page_is_one_to_compare_with(
    open_stage: StageOpener, source: str, counts: bool
) -> None:
    pair = ScriptedPair([script_of((2,), (3,), (4,))])
    chat = Chat(open_stage(lambda: pair))
    loaded = chat.workspace.loaded("scripted", backend="script")
    list(chat.workspace.run(loaded, ask(mode="ar"), source=source))
    pair.scripts = one_reply().scripts
    assert ("3.00×" in last(chat.send("x"))["chat-cards"]) is counts


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
    assert "Draft length: adaptive, 3 drafts a step." in shown["chat-status"]
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


def test_stop_leaves_the_status_line_to_the_run(open_stage: StageOpener) -> None:
    blocks = Chat(open_stage(one_reply)).blocks
    names = ("ChatTab.on_stop", "CompareTab.on_stop")
    stops = [fn for fn in blocks.fns.values() if getattr(fn.fn, "__qualname__", "") in names]
    assert len(stops) >= 2
    assert [fn.outputs for fn in stops] == [[]] * len(stops)


def test_half_a_surrogate_pair_in_a_prompt_can_be_sent_back_to_the_browser(
    open_stage: StageOpener,
) -> None:
    broken = ScriptedPair([[GenerationFailed("Half a pair: type it again.")]])
    for values in (None, [*bar("absent", "absent"), *SETTINGS]):
        updates = Chat(open_stage(lambda: broken)).send("Keep \ud83d", values)
        for shown in map(texts, updates):
            assert "\ud83d" not in str([v for k, v in shown.items() if k != "state"])
            assert shown.get("chat-prompt", "Keep ?") in ("Keep ?", "")


def test_a_known_loss_is_told_before_the_reply_comes_and_stays_beside_it(
    open_stage: StageOpener,
) -> None:
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
    assert shown["chat-notice"].endswith(told)
    assert "trained on sequences of 4" in shown["chat-notes"]
    plain = last(chat.send("这是什么？", [*bar(drafter="none"), *values]))
    assert "trained" not in plain["chat-notes"] + plain["chat-notice"]


def test_tokens_are_coloured_on_demand(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    assert last(chat.send("x", [*bar(), *SAMPLING, False, ""]))["chat-strip"] == "</div></div>"


def test_a_megabyte_is_refused_at_once_and_given_back(open_stage: StageOpener) -> None:
    chat = Chat(open_stage(one_reply))
    text = "x" * 1_000_000
    shown = last(chat.send(text))
    assert "1,000,000 characters, more than 400,000" in shown["chat-notice"]
    assert shown["chat-prompt"] == text
    assert chat.workspace.store.chats.list_heads(None) == []
