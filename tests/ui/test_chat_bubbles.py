"""One bubble a message, reasoning folded, the reply's figures below it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dflash_app.store.chat_records import ReplyFigures, Turn
from dflash_app.ui.chat_bubbles import (
    MAX_SHOWN_CHARS,
    bubbles_of,
    growing_bubbles,
    render_foot,
    turn_at,
)

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
FIGURES = ReplyFigures("embedded", "dflash", 131, 412.4, 0.084, 6.57)
QUESTION = Turn("user", "How many?", WHEN)
REPLY = Turn("assistant", "Nine.", WHEN, 7, "stop", FIGURES)
THOUGHTFUL = replace(REPLY, content="<think>\nso\n</think>\n\nNine.")


def text_of(bubble: dict[str, object]) -> str:
    (part,) = bubble["content"]  # type: ignore[misc, attr-defined]
    return str(part["text"])


def test_reasoning_is_folded_above_the_answer_and_figures_stand_below() -> None:
    question, thought, answer = bubbles_of([QUESTION, THOUGHTFUL])
    assert (question["role"], text_of(question)) == ("user", "How many?")
    assert thought["metadata"] == {"title": "Reasoning", "status": "done"}
    assert text_of(thought) == "so"
    assert text_of(answer).startswith('Nine.\n\n<small class="foot">\u2063412 tok/s · ')


def test_a_bubble_is_found_with_reasoning_counted() -> None:
    turns = [QUESTION, THOUGHTFUL, QUESTION, REPLY]
    assert len(bubbles_of(turns)) == 5
    assert [turn_at(turns, index) for index in range(6)] == [0, 1, 1, 2, 3, None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "412 tok/s · acceptance 6.57 · first token 84.0 ms · 131 tokens · embedded"),
        ({"figures": None}, ""),
        ({"figures": None, "finish_reason": "length"}, "ended at the length limit"),
        ({"figures": None, "finish_reason": "interrupted"}, "cut by a crash"),
        ({"figures": None, "finish_reason": None}, "still being written"),
        ({"figures": None, "finish_reason": None, "run_id": None}, "no reply came"),
        ({"figures": replace(FIGURES, mode="ar")}, "412 tok/s · plain · first token"),
        ({"figures": ReplyFigures("x", "dflash", None, None, None, None)}, "x"),
    ],
)
def test_the_line_below_a_reply_says_how_it_went(changes: dict[str, object], said: str) -> None:
    foot = render_foot(replace(REPLY, **changes))  # type: ignore[arg-type]
    assert foot.startswith(said) if said else foot == ""


def test_a_reply_cut_within_code_leaves_its_figures_outside() -> None:
    (bubble,) = bubbles_of([replace(REPLY, content="```py\nx = 1")])
    assert text_of(bubble).startswith('```py\nx = 1\n```\n\n<small class="foot">')


def test_tabs_and_indentation_reach_the_browser_as_written() -> None:
    (bubble,) = bubbles_of([replace(QUESTION, content="    a\n\tb")])
    assert text_of(bubble) == "    a\n\tb"


def test_hostile_names_in_the_figures_stay_text() -> None:
    hostile = replace(REPLY, figures=replace(FIGURES, pair="<img src=x>"))
    assert "&lt;img src=x&gt;" in text_of(bubbles_of([hostile])[0])


def test_a_growing_reply_begins_with_a_sign_of_life() -> None:
    assert [text_of(each) for each in growing_bubbles("")] == ["…"]
    (thought,) = growing_bubbles("<think>so f")
    assert (thought["metadata"]["title"], text_of(thought)) == ("Thinking…", "so f")
    assert [text_of(each) for each in growing_bubbles("<think>so</think>9")] == ["so", "9"]


def test_a_huge_message_is_shown_in_part() -> None:
    (bubble,) = bubbles_of([replace(QUESTION, content="x" * 400_000)])
    assert len(text_of(bubble)) < MAX_SHOWN_CHARS + 100
    assert text_of(bubble).endswith("… (360,000 more characters)")
