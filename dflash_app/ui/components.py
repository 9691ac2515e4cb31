"""Small pieces of the page as inert HTML: figures, notices, the status line of a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from dflash_app.ui.live import Phase

Level = Literal["info", "warning", "error", "success"]

WAITING = "Waiting for the device: another run, or loading a model, has it."
LOADING = "Loading the model and reading the prompt…"
_ENDINGS = {
    "stop": "Finished",
    "length": "Ended at the length limit",
    "cancelled": "Stopped",
}


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
    """One sentence that the user should see; an empty one draws nothing."""
    if not text:
        return ""
    role = "alert" if level in ("error", "warning") else "status"
    return f'<div class="notice {level}" role="{role}">{escape_html(text)}</div>'


def render_events(events: Sequence[tuple[int, str]]) -> str:
    """What happened in a run, below each other: after how many tokens, and what."""
    drawn = "".join(
        f"<li><b>after {format_count(num_tokens)} tokens</b> {escape_html(text)}</li>"
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
        ar_tok_s: plain decoding's speed of the same pair on this machine, None = unknown.
        mode: "ar" or "dflash".
    """
    speedup = None
    if mode == "dflash" and ar_tok_s and metrics.decode_tok_s:
        speedup = metrics.decode_tok_s / ar_tok_s
    against = f"against {format_speed(ar_tok_s)} of the last plain run of this pair on this machine"
    if ar_tok_s is None:
        against = "unknown until this pair has run once without drafter (Compare does both)"
    return [
        Card("Speed", format_speed(metrics.decode_tok_s), "decoding, prefill apart", main=True),
        Card("Speedup", format_ratio(speedup), against, main=True),
        Card(
            "Acceptance",
            format_decimal(metrics.mean_acceptance_length),
            "mean acceptance length: tokens committed by one target forward, bonus token included",
        ),
        Card("First token", format_duration(metrics.ttft_s), "time to first token, queue apart"),
        Card("Tokens", count_or_unknown(metrics, metrics.num_output_tokens), "put out so far"),
        Card(
            "Steps", count_or_unknown(metrics, metrics.num_steps), "target forwards after prefill"
        ),
    ]


def count_or_unknown(metrics: RunMetrics, count: int) -> str:
    """A count of a run, or a dash before its first token."""
    return UNKNOWN if metrics.num_prompt_tokens is None else format_count(count)


def run_status(phase: Phase, finished: Finished | None, *, stopped: bool = False) -> str:
    """One line that says where the run is."""
    if phase == "waiting":
        return WAITING
    if phase == "loading":
        return LOADING
    if phase == "running":
        return "Stopping…" if stopped else "Generating…"
    if finished is not None:
        return f"{_ENDINGS[finished.reason]} after {format_duration(finished.elapsed_s)}."
    return "Stopped." if stopped else ""


def render_status(text: str, *, busy: bool = False) -> str:
    """The status line; `busy` adds a dot."""
    if not text:
        return '<div class="run-status" aria-live="polite"></div>'
    dot = '<span class="dot" aria-hidden="true"></span>' if busy else ""
    return f'<div class="run-status" aria-live="polite">{dot}{escape_html(text)}</div>'
