"""Small pieces of the page as inert HTML: figures, notices, the status line of a run."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dflash_app.events import Finished
from dflash_app.metrics import RunMetrics
from dflash_app.ui.format import (
    UNKNOWN,
    escape_html,
    format_count,
    format_decimal,
    format_duration,
    format_ratio,
    format_speed,
)
from dflash_app.ui.language import Texts
from dflash_app.ui.live import Phase

_texts = Texts.load("components", Path(__file__).with_name("texts") / "components.yaml")

Level = Literal["info", "warning", "error", "success"]

_COMMAND = re.compile("`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Card:
    """One figure: `hint` says on hover what it means; `main` makes it large."""

    label: str
    value: str
    hint: str = ""
    main: bool = False


def render_cards(cards: Sequence[Card]) -> str:
    """Figures side by side."""
    drawn = "".join(
        f'<div class="card{" main" if card.main else ""}" title="{escape_html(card.hint)}">'
        f"<dt>{escape_html(card.label)}</dt><dd>{escape_html(card.value)}</dd></div>"
        for card in cards
    )
    return f'<dl class="cards">{drawn}</dl>'


def render_parts(parts: Mapping[str, str]) -> str:
    """Pieces of HTML below each other in one, each in an element of its id.

    What changes together is one component: each further one costs Gradio at every look.
    """
    drawn = (f'<div id="{elem_id}">{html}</div>' for elem_id, html in parts.items())
    return f'<div class="parts">{"".join(drawn)}</div>'


def render_notice(text: str, level: Level = "info") -> str:
    """One sentence that the user should see, what it puts in backticks as code.

    An empty one draws nothing.
    """
    if not text:
        return ""
    role = "alert" if level in ("error", "warning") else "status"
    shown = _COMMAND.sub(r"<code>\1</code>", escape_html(text))
    return f'<div class="notice {level}" role="{role}">{shown}</div>'


def render_events(events: Sequence[tuple[int, str]]) -> str:
    """What happened in a run, below each other: after how many tokens, and what."""
    drawn = "".join(
        f"<li><b>{escape_html(_texts.say('after_tokens', count=format_count(num_tokens)))}</b> "
        f"{escape_html(text)}</li>"
        for num_tokens, text in events
    )
    return f'<ul class="events" aria-live="polite">{drawn}</ul>' if drawn else ""


def render_notices(notices: Iterable[tuple[str, Level]]) -> str:
    """Several notices below each other."""
    return "".join(render_notice(text, level) for text, level in notices)


def run_cards(metrics: RunMetrics, ar_tok_s: float | None, mode: str) -> list[Card]:
    """The figures of a run.

    Args:
        metrics: complete or still growing.
        ar_tok_s: plain decoding's speed of the same pair on this machine, or on its server as
            measured from here; None = unknown.
        mode: "ar" or "dflash".
    """
    speedup = None
    if mode == "dflash" and ar_tok_s and metrics.decode_tok_s:
        speedup = metrics.decode_tok_s / ar_tok_s
    where = "_client" if metrics.at_client else ""
    against = _texts.say(f"speedup_hint{where}", speed=format_speed(ar_tok_s))
    if ar_tok_s is None:
        against = _texts.say("speedup_unknown")
    num_tokens = count_or_unknown(metrics, metrics.num_output_tokens)
    num_steps = count_or_unknown(metrics, metrics.num_steps)
    figures = {
        "first_token": format_duration(metrics.ttft_s),
        "tokens": num_tokens,
        "steps": num_steps,
    }
    say = _texts.say
    return [
        speed_card(metrics),
        Card(say("speedup"), format_ratio(speedup), against, main=True),
        acceptance_card(metrics),
        *(Card(say(key), value, say(f"{key}_hint")) for key, value in figures.items()),
    ]


def speed_card(metrics: RunMetrics) -> Card:
    """The decoding speed; of a server it says that it was measured here."""
    key = "speed_client" if metrics.at_client else "speed"
    speed = format_speed(metrics.decode_tok_s)
    return Card(_texts.say(key), speed, _texts.say(f"{key}_hint"), main=True)


def acceptance_card(metrics: RunMetrics) -> Card:
    """The acceptance length; of a server it says who counted, and whether others are in it."""
    key = "acceptance_shared" if metrics.acceptance_shared else "acceptance"
    hint = _texts.say("acceptance_hint")
    if metrics.acceptance_source is not None:
        told = _texts.say("acceptance_source", source=metrics.acceptance_source)
        shared = _texts.say("acceptance_shared_hint") if metrics.acceptance_shared else ""
        hint = "; ".join(filter(None, [hint, told, shared]))
    return Card(_texts.say(key), format_decimal(metrics.mean_acceptance_length), hint)


def count_or_unknown(metrics: RunMetrics, count: int | None) -> str:
    """A count of a run, or a dash before its first token."""
    return UNKNOWN if metrics.ttft_s is None else format_count(count)


def run_status(
    phase: Phase,
    finished: Finished | None,
    *,
    stopped: bool = False,
    num_before: int | None = None,
    loading_s: float = 0.0,
) -> str:
    """One line that says where the run is.

    Args:
        phase: of the run.
        finished: its last event.
        stopped: the user pressed Stop.
        num_before: runs that wait before this one, None = not known yet.
        loading_s: what loading has taken so far; told from a second on.
    """
    if phase == "waiting" and num_before:
        return _texts.say("waiting_behind", number=num_before)
    if phase == "loading" and loading_s >= 1:
        return _texts.say("loading_since", seconds=int(loading_s))
    if phase in ("waiting", "loading"):
        return _texts.say(phase)
    if phase == "running":
        return _texts.say("stopping" if stopped else "running")
    if finished is not None:
        duration = format_duration(finished.elapsed_s)
        return _texts.say(f"end_{finished.reason}", duration=duration)
    return _texts.say("stopped") if stopped else ""


def render_status(text: str, *, busy: bool = False) -> str:
    """The status line; `busy` adds a dot."""
    if not text:
        return '<div class="run-status" aria-live="polite"></div>'
    dot = '<span class="dot" aria-hidden="true"></span>' if busy else ""
    return f'<div class="run-status" aria-live="polite">{dot}{escape_html(text)}</div>'
