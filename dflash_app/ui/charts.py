"""Charts of stored runs. Where there is nothing to draw, a chart says so."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import plotly.graph_objects as go

from dflash_app.store.records import RunRecord
from dflash_app.ui.format import escape_html, format_when

COLOURS = {"ar": "#94a3b8", "dflash": "#6366f1"}
NAMES = {"ar": "AR (no drafter)", "dflash": "DFlash"}
_NEUTRAL = "#7c8aa0"
_GRID = "rgba(124, 138, 160, 0.22)"


def chart_speed(runs: Sequence[RunRecord]) -> go.Figure:
    """Median decoding speed of each pair, AR beside DFlash."""
    speeds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        if run.metrics.decode_tok_s is not None:
            speeds[run.start.pair, run.start.mode].append(run.metrics.decode_tok_s)
    figure = _figure("Speed by pair (median)", "", "tok/s")
    pairs = sorted({pair for pair, _ in speeds})
    for mode, name in NAMES.items():
        shown = [pair for pair in pairs if (pair, mode) in speeds]
        figure.add_bar(
            x=[escape_html(pair) for pair in shown],
            y=[median(speeds[pair, mode]) for pair in shown],
            customdata=[len(speeds[pair, mode]) for pair in shown],
            hovertemplate="%{y:.1f} tok/s, median of %{customdata} runs<extra>" + name + "</extra>",
            name=name,
            marker_color=COLOURS[mode],
        )
    return figure if speeds else _say_empty(figure)


def chart_acceptance_histogram(runs: Sequence[RunRecord]) -> go.Figure:
    """How often a step accepted 0, 1, 2, ... drafts, over all runs."""
    counts: dict[int, int] = defaultdict(int)
    for run in runs:
        for num_accepted, steps in enumerate(run.metrics.acceptance_histogram):
            counts[num_accepted] += steps
    figure = _figure("Drafts accepted in a step", "accepted drafts", "share of steps")
    total = sum(counts.values())
    if not total:
        return _say_empty(figure)
    numbers = sorted(counts)
    figure.add_bar(
        x=numbers,
        y=[counts[number] / total for number in numbers],
        hovertemplate="%{x} accepted: %{y:.1%} of steps<extra></extra>",
        marker_color=COLOURS["dflash"],
        name="steps",
        showlegend=False,
    )
    figure.update_yaxes(tickformat=".0%")
    return figure


def chart_acceptance_by_position(runs: Sequence[RunRecord]) -> go.Figure:
    """Acceptance rate at each draft position: the mean over the runs that drafted it."""
    rates: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        for position, rate in enumerate(run.metrics.acceptance_by_position, start=1):
            rates[position].append(rate)
    figure = _figure("Acceptance by draft position", "position in the block", "accepted")
    if not rates:
        return _say_empty(figure)
    positions = sorted(rates)
    figure.add_scatter(
        x=positions,
        y=[sum(rates[position]) / len(rates[position]) for position in positions],
        mode="lines+markers",
        hovertemplate="position %{x}: %{y:.0%} accepted<extra></extra>",
        line_color=COLOURS["dflash"],
        name="accepted",
        showlegend=False,
    )
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return figure


def chart_speedup(runs: Sequence[RunRecord]) -> go.Figure:
    """Speedup of each race over time: both lanes share a group, so each bar is like with like."""
    lanes: dict[str, dict[str, RunRecord]] = defaultdict(dict)
    for run in runs:
        if run.start.group_id and run.metrics.decode_tok_s:
            lanes[run.start.group_id][run.start.mode] = run
    races = [lane for lane in lanes.values() if set(lane) >= {"ar", "dflash"}]
    races.sort(key=lambda lane: lane["dflash"].id)
    figure = _figure("Speedup of each race", "", "DFlash ÷ AR")
    if not races:
        return _say_empty(figure, "No race yet: run one in Compare.")
    figure.add_scatter(
        x=[lane["dflash"].start.started_at for lane in races],
        y=[_speedup(lane) for lane in races],
        text=[_name_race(lane["dflash"]) for lane in races],
        mode="lines+markers",
        hovertemplate="%{y:.2f}×<br>%{text}<extra></extra>",
        line_color=COLOURS["dflash"],
        name="speedup",
        showlegend=False,
    )
    figure.add_hline(y=1, line_dash="dot", line_color=_NEUTRAL)
    figure.update_yaxes(rangemode="tozero", ticksuffix="×")
    return figure


def _name_race(run: RunRecord) -> str:
    return f"{escape_html(run.start.pair)}, {format_when(run.start.started_at)}"


def _speedup(lane: dict[str, RunRecord]) -> float:
    dflash, ar = lane["dflash"].metrics.decode_tok_s, lane["ar"].metrics.decode_tok_s
    return (dflash or 0.0) / ar if ar else 0.0


def _figure(title: str, x_title: str, y_title: str) -> go.Figure:
    """An empty figure without a background of its own: it reads on light and dark."""
    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "font": {"size": 15}, "x": 0.02, "xanchor": "left"},
        font={"color": _NEUTRAL, "family": "system-ui, sans-serif", "size": 12},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 18, "t": 48, "b": 46},
        height=290,
        bargap=0.25,
        legend={"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right"},
    )
    figure.update_xaxes(title=x_title, gridcolor=_GRID, zeroline=False, automargin=True)
    figure.update_yaxes(title=y_title, gridcolor=_GRID, zeroline=False, automargin=True)
    return figure


def _say_empty(figure: go.Figure, text: str = "No run to draw yet.") -> go.Figure:
    figure.add_annotation(text=text, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure
