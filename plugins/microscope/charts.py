"""Charts of one run: how far its drafts got, and where its time went."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import ceil
from pathlib import Path
from statistics import fmean

import plotly.graph_objects as go

from dflash_app.advisor.profile import TimedStep
from dflash_app.events import TokensArrived
from dflash_app.ui.charts import COLOURS, NEUTRAL, PALETTE, build_figure, explain_empty
from dflash_app.ui.language import Texts

from .specimen import Specimen

MAX_POINTS = 120
"""Most points of a chart along the reply: more steps are drawn as means of neighbours."""

_texts = Texts.load("microscope-charts", Path(__file__).with_name("charts.yaml"))
_PARTS: dict[str, Callable[[TimedStep], float]] = {
    "propose": lambda step: step.event.propose_s,
    "verify": lambda step: step.event.verify_s,
    "host": lambda step: step.host_s,
}
TIME_COLOURS = {"propose": PALETTE[1], "verify": PALETTE[0], "host": NEUTRAL}


def chart_positions(run: Specimen) -> go.Figure:
    """Acceptance at each draft position, and how sure the drafter was of it."""
    figure = build_figure(*map(_texts.say, ("positions_title", "positions_x", "positions_y")))
    survival = run.positions
    if not survival:
        return explain_empty(figure, _say_no_drafts(run))
    positions = list(range(1, len(survival) + 1))
    figure.add_bar(
        x=positions,
        y=list(survival),
        name=_texts.say("accepted"),
        marker_color=COLOURS["dflash"],
        hovertemplate="%{x}: %{y:.0%}<extra>" + _texts.say("accepted") + "</extra>",
    )
    if run.has_confidences:
        figure.add_scatter(
            x=positions,
            y=[_mean_confidence(run, position) for position in positions],
            name=_texts.say("sure"),
            mode="lines+markers",
            line_color=PALETTE[2],
            hovertemplate="%{x}: %{y:.0%}<extra>" + _texts.say("sure") + "</extra>",
        )
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    figure.update_xaxes(dtick=max(1, ceil(len(positions) / 16)))
    return figure


def chart_lengths(run: Specimen) -> go.Figure:
    """How many steps accepted 0, 1, 2, ... drafts."""
    figure = build_figure(*map(_texts.say, ("lengths_title", "lengths_x", "lengths_y")))
    counts = run.record.metrics.acceptance_histogram
    plain = len(run.steps) - len(run.profile.drafting)
    if not counts or (run.steps and not run.profile.drafting):
        return explain_empty(figure, _say_no_drafts(run))
    # Steps of adaptive drafts that drafted nothing accepted nothing: they are none of these.
    shown = [count - plain if index == 0 else count for index, count in enumerate(counts)]
    figure.add_bar(
        x=list(range(len(shown))),
        y=shown,
        marker_color=COLOURS["dflash"],
        hovertemplate="%{x}: %{y}<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(dtick=max(1, ceil(len(shown) / 16)))
    figure.update_yaxes(dtick=max(1, ceil(max(shown) / 6)))
    return figure


def chart_along(run: Specimen) -> go.Figure:
    """Tokens that each step committed, along the reply; of a server the tokens as they arrived."""
    figure = build_figure(*map(_texts.say, ("along_title", "along_x", "along_y")))
    if run.arrivals:
        return _chart_arrivals(run.arrivals)
    if not run.profile.drafting:
        return explain_empty(figure, _say_no_drafts(run))
    groups = _groups(list(zip(run.starts, run.steps, strict=True)))
    figure.add_bar(
        x=[group[0][0] for group in groups],
        y=[fmean(1 + step.event.num_accepted for _, step in group) for group in groups],
        width=[sum(len(step.event.token_ids) for _, step in group) for group in groups],
        offset=0,
        marker={"color": COLOURS["dflash"], "line": {"width": 0}},
        hovertemplate="%{x}: %{y:.2f}<extra></extra>",
        showlegend=False,
    )
    mean = run.profile.acceptance_length
    figure.add_hline(y=mean, line_dash="dot", line_color=NEUTRAL, annotation_text=f"{mean:.2f}")
    figure.update_yaxes(rangemode="tozero")
    return figure


def _chart_arrivals(arrivals: Sequence[TokensArrived]) -> go.Figure:
    """Tokens that had arrived from a server, by the time that they took."""
    figure = build_figure(*map(_texts.say, ("arrived_title", "arrived_x", "arrived_y")))
    if any(each.num_tokens is None for each in arrivals):
        return explain_empty(figure, _texts.say("served"))
    size = max(1, ceil(len(arrivals) / MAX_POINTS))
    totals = list(accumulate(each.num_tokens or 0 for each in arrivals))
    last = len(arrivals) - 1
    shown = sorted({*range(0, len(arrivals), size), last})
    figure.add_scatter(
        x=[arrivals[index].elapsed_s for index in shown],
        y=[totals[index] for index in shown],
        mode="lines",
        line={"color": COLOURS["dflash"], "shape": "hv"},
        hovertemplate="%{x:.2f} s: %{y}<extra></extra>",
        showlegend=False,
    )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(rangemode="tozero")
    return figure


def chart_time(run: Specimen) -> go.Figure:
    """Milliseconds of a step along the reply: drafting, verifying, other."""
    figure = build_figure(*map(_texts.say, ("time_title", "time_x", "time_y")))
    if not run.steps:
        key = "no_steps" if run.profile.served is None else "served"
        return explain_empty(figure, _texts.say(key))
    groups = _groups(list(zip(run.starts, run.steps, strict=True)))
    for part, seconds in _PARTS.items():
        figure.add_scatter(
            x=[group[0][0] for group in groups],
            y=[fmean(seconds(step) for _, step in group) * 1e3 for group in groups],
            name=_texts.say(part),
            mode="lines",
            stackgroup="step",
            line={"width": 0.5, "color": TIME_COLOURS[part]},
            hovertemplate=f"%{{y:.3g}} {_texts.say('ms')}<extra>{_texts.say(part)}</extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def _say_no_drafts(run: Specimen) -> str:
    return _texts.say("no_drafts" if run.profile.served is None else "served")


def _groups(
    steps: Sequence[tuple[int, TimedStep]],
) -> list[Sequence[tuple[int, TimedStep]]]:
    """Neighbouring steps together, so that there are at most `MAX_POINTS` groups."""
    size = max(1, ceil(len(steps) / MAX_POINTS))
    return [steps[index : index + size] for index in range(0, len(steps), size)]


def _mean_confidence(run: Specimen, position: int) -> float | None:
    sure = [
        step.event.confidences[position - 1]
        for step in run.profile.drafting
        if step.event.confidences and len(step.event.confidences) >= position
    ]
    return fmean(sure) if sure else None
