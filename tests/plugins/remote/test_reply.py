"""Chunks become events: tokens as far as they are counted, and text that is text."""

from itertools import chain
from typing import Any

import pytest
from dflash_plugins.remote.reply import Reply

from dflash_app.events import DecodeEvent, TextDelta, TokensArrived
from dflash_app.ui.chat_markdown import split_thought
from tests.plugins.remote.asking_servers import text_of
from tests.plugins.remote.scripted_server import says


def fold(*chunks: dict[str, Any]) -> list[DecodeEvent]:
    reply = Reply()
    return list(chain.from_iterable(reply.take(chunk, 1.0) for chunk in chunks))


def arrivals(*chunks: dict[str, Any]) -> list[tuple[int | None, tuple[int, ...]]]:
    return [
        (event.num_tokens, event.token_ids)
        for event in fold(*chunks)
        if isinstance(event, TokensArrived)
    ]


def test_tokens_are_counted_by_their_ids_before_any_total() -> None:
    usage = {"completion_tokens": 99}
    events = fold(says(""), says("a b", token_ids=[7, 8], usage=usage))
    assert events == [TokensArrived(2, (7, 8), 1.0), TextDelta("a b")]


@pytest.mark.parametrize("name", ["usage", "timings"])
def test_running_totals_are_turned_into_counts(name: str) -> None:
    count = {"usage": "completion_tokens", "timings": "predicted_n"}[name]
    chunks = [says("a", **{name: {count: 1}}), says("b c", **{name: {count: 4}})]
    assert arrivals(*chunks) == [(1, ()), (3, ())]


def test_what_nobody_counts_is_not_counted() -> None:
    assert arrivals(says("a"), says("b"), says()) == [(None, ()), (None, ())]


def test_tokens_without_text_yet_arrive_and_chunks_without_either_do_not() -> None:
    events = fold(says("", token_ids=[1]), says(""), says(end="stop"), {"choices": []}, {})
    assert events == [TokensArrived(1, (1,), 1.0)]


def test_a_total_that_falls_back_counts_nothing() -> None:
    chunks = [says("a", usage={"completion_tokens": 5}), says("b", usage={"completion_tokens": 2})]
    assert arrivals(*chunks) == [(5, ()), (0, ())]


@pytest.mark.parametrize("total", ["many", -1, True, 1e300, None, float("nan")])
def test_a_total_that_is_no_count_counts_nothing(total: Any) -> None:
    assert arrivals(says("a", usage={"completion_tokens": total})) == [(None, ())]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_folded_away_as_the_page_does_it(name: str) -> None:
    chunks = [says(**{name: "Add "}), says(**{name: "first."}), says("It is "), says("42.")]
    whole = text_of(fold(*chunks))
    assert split_thought(whole) == ("Add first.", False, "It is 42.")
    assert split_thought(text_of(fold(*chunks[:2]))) == ("Add first.", True, "")


def test_reasoning_and_answer_in_one_chunk_are_told_apart() -> None:
    events = fold(says("It is 42.", reasoning="Add."), says(" Yes."))
    assert split_thought(text_of(events)) == ("Add.", False, "It is 42. Yes.")


def test_a_reply_without_reasoning_gets_no_marks() -> None:
    assert text_of(fold(says("It is "), says("42.", reasoning=""))) == "It is 42."


def test_half_characters_of_a_pair_become_the_replacement_character() -> None:
    text = text_of(fold(says("ok \ud83d"), says("\ud83d\ude42 é")))
    assert text == "ok \ufffd\U0001f642 é"
    text.encode()


@pytest.mark.parametrize(
    ("told", "reason"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "stop"), ("abort", None)],
)
def test_ends_are_told_in_our_words(told: str, reason: str | None) -> None:
    reply = Reply()
    reply.take(says(end=told), 1.0)
    assert (reply.reason, reply.finish_reason) == (told, reason)


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": "no"},
        {"choices": [None]},
        {"choices": [{"delta": "text"}]},
        {"choices": [{"delta": {"content": 5}}]},
        {"choices": [{"delta": {"content": ["a"]}}]},
        {"choices": [{"delta": {"content": "a"}, "token_ids": [[1]]}]},
        {"choices": [{"delta": {"content": "a"}, "token_ids": ["1"]}]},
        {"choices": [{"delta": {"content": "a"}, "token_ids": [2**70]}]},
        {"choices": [{"delta": {"content": "a"}}], "usage": [1]},
    ],
)
def test_a_chunk_of_another_shape_raises_what_the_caller_translates(chunk: Any) -> None:
    with pytest.raises((AttributeError, IndexError, KeyError, TypeError, ValueError)):
        fold(chunk)
