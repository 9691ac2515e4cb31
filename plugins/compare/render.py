"""A race as inert HTML: each lane's text and figures, and the outcome."""

from typing import Literal

from dflash_app.metrics import RunMetrics
from dflash_app.race import Verdict, speedup
from dflash_app.ui.components import Card, count_or_unknown, render_cards
from dflash_app.ui.format import (
    UNKNOWN,
    escape_html,
    format_decimal,
    format_duration,
    format_ratio,
    format_speed,
)

_TITLES = {"ar": ("Plain decoding", "one token a step"), "dflash": ("DFlash", "a block a step")}


def render_lane(name: Literal["ar", "dflash"], metrics: RunMetrics, text: str) -> str:
    """One lane: its title, figures and output."""
    title, hint = _TITLES[name]
    return (
        f'<div class="lane"><div class="lane-title">{title}<small>{hint}</small></div>'
        f'<div id="race-cards-{name}">{lane_cards(metrics)}</div>'
        f'<div id="race-text-{name}">{render_lane_text(text)}</div></div>'
    )


def lane_cards(metrics: RunMetrics) -> str:
    """The figures of one lane; each lane's clock counts its own work only."""
    return render_cards(
        [
            Card("Speed", format_speed(metrics.decode_tok_s), "decoding, prefill apart", main=True),
            Card("Time", format_duration(metrics.total_s), "this lane's own clock, with prefill"),
            Card("First token", format_duration(metrics.ttft_s), "time to first token"),
            Card("Tokens", count_or_unknown(metrics, metrics.num_output_tokens), "put out so far"),
            Card("Steps", count_or_unknown(metrics, metrics.num_steps), "target forwards"),
            Card(
                "Acceptance",
                format_decimal(metrics.mean_acceptance_length),
                "mean tokens committed by one target forward, bonus token included",
            ),
        ]
    )


def render_lane_text(text: str) -> str:
    """A lane's output as it is, without Markdown, so that the two can be compared by eye."""
    if not text:
        return '<div class="lane-text empty" tabindex="0"><div>The output appears here.</div></div>'
    return f'<div class="lane-text" tabindex="0"><div>{escape_html(text)}</div></div>'


def render_outcome(ar: RunMetrics, dflash: RunMetrics, verdict: Verdict | None) -> str:
    """Speedup, and whether the outputs are the same."""
    ratio = format_ratio(speedup(ar, dflash))
    return (
        '<div class="verdict" role="status">'
        f'<span class="speedup">{ratio}</span><span>DFlash against plain decoding</span>'
        f"{_render_judged(verdict)}</div>"
    )


def _render_judged(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    word = "identical" if verdict.identical else "near tie" if verdict.near_tie else "differs"
    if verdict.identical and verdict.num_compared == 0:
        word = "nothing to compare"
    look = "identical" if verdict.identical else "differs"
    sign = "✓" if verdict.identical and verdict.num_compared else "≠"
    if verdict.num_compared == 0 and verdict.identical:
        sign, look = UNKNOWN, ""
    details = [escape_html(verdict.explanation)]
    if verdict.logit_a is not None and verdict.logit_b is not None:
        details.append(
            f"Target's logits: AR {escape_html(repr(verdict.text_a))} {verdict.logit_a:.4f}, "
            f"DFlash {escape_html(repr(verdict.text_b))} {verdict.logit_b:.4f}."
        )
    return (
        f'<span class="judged {look}">{sign} {word}</span>'
        f'<span class="detail">{" ".join(details)}</span>'
    )
