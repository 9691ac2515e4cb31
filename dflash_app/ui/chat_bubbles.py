"""A conversation as the chatbot takes it: one bubble a message, reasoning folded, figures below."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dflash_app.store.chat_records import ReplyFigures, Turn
from dflash_app.ui.chat_acts import render_acts
from dflash_app.ui.chat_markdown import (
    FOOT,
    close_fence,
    dollars_as_formulas,
    inert_markdown,
    split_thought,
)
from dflash_app.ui.format import (
    escape_html,
    format_count,
    format_decimal,
    format_duration,
    format_speed,
)
from dflash_app.ui.language import Texts

_texts = Texts.load("bubbles", Path(__file__).with_name("texts") / "bubbles.yaml")

Bubble = dict[str, Any]

MAX_SHOWN_CHARS = 40_000
"""A longer message is shown in part: the browser would read all of it as Markdown at every look."""


def bubbles_of(turns: Sequence[Turn]) -> list[Bubble]:
    """The chatbot's value."""
    return [bubble for turn in turns for bubble in _bubbles_of_turn(turn)]


def growing_bubbles(text: str) -> list[Bubble]:
    """The reply that is being written, to stand behind `bubbles_of`."""
    return _reply_bubbles(text) or [_bubble("assistant", "…")]


def turn_at(turns: Sequence[Turn], index: int) -> int | None:
    """Which turn the bubble at `index` shows; None where there is none."""
    num_bubbles = 0
    for position, turn in enumerate(turns):
        num_bubbles += len(_bubbles_of_turn(turn))
        if index < num_bubbles:
            return position
    return None


def render_foot(turn: Turn) -> str:
    """What is known of a reply, in one line: figures of its run, how it ended; "" for nothing."""
    said = _figures(turn.figures) if turn.figures else []
    if turn.finish_reason not in (None, "stop"):
        said.append(_texts.say(f"end_{turn.finish_reason}"))
    elif turn.finish_reason is None:
        said.append(_texts.say("lost" if turn.cut else "goes_on"))
    return " · ".join(said)


def _figures(figures: ReplyFigures) -> list[str]:
    said = [format_speed(figures.decode_tok_s)] if figures.decode_tok_s else []
    if figures.mode == "ar":
        said.append(_texts.say("foot_plain"))
    elif figures.mean_acceptance_length is not None:
        length = format_decimal(figures.mean_acceptance_length)
        shared = "_shared" if figures.acceptance_shared else ""
        said.append(_texts.say(f"foot_acceptance{shared}", length=length))
    if figures.ttft_s is not None:
        said.append(_texts.say("foot_first", duration=format_duration(figures.ttft_s)))
    if figures.num_output_tokens:
        said.append(_texts.say("foot_tokens", count=format_count(figures.num_output_tokens)))
    return [*said, figures.pair]


def _bubbles_of_turn(turn: Turn) -> list[Bubble]:
    if turn.role == "user":
        return [_bubble("user", inert_markdown(_shortened(turn.content)))]
    foot, acts = escape_html(render_foot(turn)), "" if turn.under_way else render_acts(turn)
    return _reply_bubbles(turn.content, foot=" · ".join(filter(None, [foot, acts])))


def _reply_bubbles(text: str, foot: str = "") -> list[Bubble]:
    thought, thinking, answer = split_thought(text)
    bubbles = []
    if thought:
        title = _texts.say("thinking" if thinking else "thought")
        shown = inert_markdown(_shortened(thought))
        bubbles.append(_bubble("assistant", shown, {"title": title, "status": "done"}))
    shown = inert_markdown(dollars_as_formulas(_shortened(answer)))
    if foot:
        shown = f'{close_fence(shown)}\n\n<small class="foot">{FOOT}{foot}</small>'
    if shown:
        bubbles.append(_bubble("assistant", shown))
    return bubbles


def _bubble(role: str, text: str, metadata: dict[str, str] | None = None) -> Bubble:
    # A bare string would lose tabs and indentation: Gradio cleans it like a docstring.
    bubble: Bubble = {"role": role, "content": [{"type": "text", "text": text}]}
    return bubble | {"metadata": metadata} if metadata else bubble


def _shortened(text: str) -> str:
    if len(text) <= MAX_SHOWN_CHARS:
        return text
    more = _texts.say("more_characters", count=format_count(len(text) - MAX_SHOWN_CHARS))
    return f"{close_fence(text[:MAX_SHOWN_CHARS])}\n\n{more}"
