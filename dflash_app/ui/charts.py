"""Charts of stored runs. Where there is nothing to draw, a chart says why.

A figure has no background of its own and style.css colours its texts, so it reads on light and
dark. Its fonts are the system's.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import plotly.graph_objects as go

from dflash_app.store.records import RunRecord
from dflash_app.ui.format import escape_html
from dflash_app.ui.language import Texts

COLOURS = {"ar": "#94a3b8", "dflash": "#6366f1"}
PALETTE = ("#6366f1", "#0d9488", "#d97706", "#db2777", "#0284c7", "#65a30d", "#9333ea", "#dc2626")
"""For what is told apart beside the modes; read on light and dark."""

NEUTRAL = "#7c8aa0"
_GRID = "rgba(124, 138, 160, 0.22)"
_LOG_FROM = 50
"""A range of lengths this many times its least is drawn on a logarithmic axis."""

_texts = Texts.load("charts", Path(__file__).parent / "texts" / "charts.yaml")


def mode_name(mode: str) -> str:
    """A mode as charts call it, as "AR (no drafter)"."""
    return _texts.say("ar" if mode == "ar" else "dflash")


def chart_speed(runs: Sequence[RunRecord]) -> go.Figure:
    """Median decoding speed of each pair, AR beside DFlash."""
    speeds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        if run.metrics.decode_tok_s is not None:
            speeds[run.start.pair, run.start.mode].append(run.metrics.decode_tok_s)
    figure = build_figure(_texts.say("speed_title"), "", "tok/s")
    pairs = sorted({pair for pair, _ in speeds})
    for mode, colour in COLOURS.items():
        shown = [pair for pair in pairs if (pair, mode) in speeds]
        notes = [_texts.say("speed_hover", num_runs=len(speeds[pair, mode])) for pair in shown]
        figure.add_bar(
            x=[escape_html(pair) for pair in shown],
            y=[median(speeds[pair, mode]) for pair in shown],
            customdata=notes,
            hovertemplate="%{y:,.1f} tok/s, %{customdata}<extra>" + mode_name(mode) + "</extra>",
            name=mode_name(mode),
            marker_color=colour,
        )
    return figure if speeds else explain_empty(figure, say_none(runs, "no_speed"))


def chart_acceptance_histogram(runs: Sequence[RunRecord]) -> go.Figure:
    """How often a step accepted 0, 1, 2, ... drafts, over all runs."""
    counts: dict[int, int] = defaultdict(int)
    for run in runs:
        for num_accepted, steps in enumerate(run.metrics.acceptance_histogram):
            counts[num_accepted] += steps
    figure = build_figure(*map(_texts.say, ("histogram_title", "histogram_x", "histogram_y")))
    total = sum(counts.values())
    if not total:
        drafted = any(run.metrics.mean_acceptance_length is not None for run in runs)
        return explain_empty(figure, say_none(runs, "no_counts" if drafted else "no_drafts"))
    numbers = sorted(counts)
    figure.add_bar(
        x=numbers,
        y=[counts[number] / total for number in numbers],
        hovertemplate="%{x} " + _texts.say("histogram_hover") + ": %{y:.1%}<extra></extra>",
        marker_color=COLOURS["dflash"],
        showlegend=False,
    )
    figure.update_yaxes(tickformat=".0%")
    return _count_on_x(figure, len(numbers))


def chart_acceptance_by_position(runs: Sequence[RunRecord]) -> go.Figure:
    """Acceptance rate at each draft position: the mean over the runs that drafted it."""
    rates: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        for position, rate in enumerate(run.metrics.acceptance_by_position, start=1):
            rates[position].append(rate)
    figure = build_figure(*map(_texts.say, ("positions_title", "positions_x", "positions_y")))
    if not rates:
        drafted = any(run.metrics.mean_acceptance_length is not None for run in runs)
        return explain_empty(figure, say_none(runs, "no_counts" if drafted else "no_drafts"))
    positions = sorted(rates)
    figure.add_scatter(
        x=positions,
        y=[sum(rates[position]) / len(rates[position]) for position in positions],
        mode="lines+markers",
        hovertemplate="%{x}: %{y:.0%}<extra></extra>",
        line_color=COLOURS["dflash"],
        showlegend=False,
    )
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return _count_on_x(figure, len(positions))


def chart_context(runs: Sequence[RunRecord]) -> go.Figure:
    """Decoding speed of each run against its length: tokens of prompt and output."""
    figure = build_figure(_texts.say("context_title"), _texts.say("context_x"), "tok/s")
    lengths: list[int] = []
    for mode, colour in COLOURS.items():
        points = [
            (run, run.metrics.num_context_tokens)
            for run in runs
            if run.start.mode == mode
            and run.metrics.decode_tok_s is not None
            and None not in (run.metrics.num_prompt_tokens, run.metrics.num_output_tokens)
        ]
        lengths += [length for _, length in points]
        figure.add_scatter(
            x=[length for _, length in points],
            y=[run.metrics.decode_tok_s for run, _ in points],
            text=[f"{escape_html(run.start.pair)}, #{run.id}" for run, _ in points],
            mode="markers",
            marker={"color": colour, "size": 7, "opacity": 0.75},
            hovertemplate="%{y:,.1f} tok/s, %{x:,}<br>%{text}<extra></extra>",
            name=mode_name(mode),
        )
    if not lengths:
        return explain_empty(figure, say_none(runs, "no_speed"))
    figure.update_yaxes(rangemode="tozero")
    wide = max(lengths) > _LOG_FROM * min(lengths)
    figure.update_xaxes(type="log" if wide else "linear", dtick="D2" if wide else None)
    figure.update_xaxes(showgrid=True)
    return figure


def build_figure(title: str, x_title: str, y_title: str) -> go.Figure:
    """An empty figure that looks like the others."""
    figure = go.Figure()
    axis: dict[str, Any] = {"gridcolor": _GRID, "zeroline": False, "automargin": True}
    axis |= {"exponentformat": "none", "separatethousands": True}
    figure.update_layout(
        template="none",
        title={"text": title, "font": {"size": 15}, "x": 0.02, "xanchor": "left"},
        font={"color": NEUTRAL, "family": "system-ui, sans-serif", "size": 12},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 18, "t": 58, "b": 46},
        height=320,
        bargap=0.25,
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": NEUTRAL},
        xaxis={"title": {"text": x_title}, "showgrid": False, **axis},
        yaxis={"title": {"text": y_title}, **axis},
    )
    return figure


def explain_empty(figure: go.Figure, text: str) -> go.Figure:
    """The figure without axes, with the reason why it shows nothing."""
    figure.data = ()
    figure.add_annotation(
        text="<br>".join(_lines(text)), showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper"
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def say_none(runs: Sequence[RunRecord], key: str) -> str:
    """Why there is nothing: no run at all, or none of the kind that `key` tells."""
    return _texts.say(key if runs else "no_runs")


def _count_on_x(figure: go.Figure, num_values: int) -> go.Figure:
    """Whole numbers on the axis, also where there are few of them."""
    figure.update_xaxes(dtick=max(1, math.ceil(num_values / 16)))
    return figure


def _lines(text: str, width: int = 44) -> list[str]:
    """The text in lines that fit a phone; a language without spaces breaks at its stops."""
    words = escape_html(text).replace("。", "。 ").replace("：", "： ").split(" ")
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
