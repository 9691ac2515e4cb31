"""Charts of runs that compare: speedups, what changed over time, published against measured."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median

import plotly.graph_objects as go

from dflash_app.store.records import RunRecord
from dflash_app.ui.charts import (
    COLOURS,
    NEUTRAL,
    PALETTE,
    build_figure,
    explain_empty,
    mode_name,
    say_none,
)
from dflash_app.ui.format import escape_html

from .published import Sheet
from .speedups import Speedup
from .words import texts

MAX_LINES = 4
"""Pairs whose trend is drawn, and tables that are compared: more cannot be told apart."""

_HOURS_UP_TO = timedelta(days=2)


def chart_speedups(runs: Sequence[RunRecord], speedups: Sequence[Speedup]) -> go.Figure:
    """Median speedup of each pair, by task."""
    figure = build_figure(texts.say("speedup_title"), "", texts.say("speedup_y"))
    if not speedups:
        return explain_empty(figure, _why_no_speedup(runs))
    by_task: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in speedups:
        by_task[each.run.start.task or ""][each.run.start.pair].append(each.ratio)
    for index, (task, ratios) in enumerate(sorted(by_task.items())):
        name = escape_html(task) or texts.say("no_task")
        figure.add_bar(
            x=[escape_html(pair) for pair in sorted(ratios)],
            y=[median(ratios[pair]) for pair in sorted(ratios)],
            customdata=[
                texts.say(
                    "speedup_hover",
                    num_runs=len(ratios[pair]),
                    least=f"{min(ratios[pair]):.2f}×",
                    most=f"{max(ratios[pair]):.2f}×",
                )
                for pair in sorted(ratios)
            ],
            hovertemplate="%{y:.2f}×, %{customdata}<extra>" + name + "</extra>",
            name=name,
            marker_color=PALETTE[index % len(PALETTE)],
            showlegend=len(by_task) > 1,
        )
    return _from_one(figure)


def chart_trend(runs: Sequence[RunRecord]) -> go.Figure:
    """Median speed over time and versions, of the pairs with most runs: a line for each mode.

    Steps of time are days, or hours where all runs are within two days; a new version of the app
    begins a step of its own.
    """
    figure = build_figure(texts.say("trend_title"), "", "tok/s")
    timed = [run for run in runs if run.metrics.decode_tok_s is not None]
    if not timed:
        return explain_empty(figure, say_none(runs, "no_speed"))
    times = [run.start.started_at for run in timed]
    hourly = max(times) - min(times) <= _HOURS_UP_TO
    lines: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    steps: list[str] = []
    for run in sorted(timed, key=lambda each: (each.start.started_at, each.id)):
        step = _step(run.start.started_at, run.start.app_version, hourly=hourly)
        if step not in steps:
            steps.append(step)
        lines[run.start.pair, run.start.mode][step].append(run.metrics.decode_tok_s or 0.0)
    pairs = _most_run(timed)
    for (pair, mode), speeds in sorted(lines.items()):
        if pair not in pairs:
            continue
        name = mode_name(mode) if len(pairs) == 1 else f"{escape_html(pair)}, {mode_name(mode)}"
        colour = COLOURS[mode] if len(pairs) == 1 else PALETTE[pairs.index(pair)]
        figure.add_scatter(
            x=list(speeds),
            y=[median(each) for each in speeds.values()],
            customdata=[texts.say("trend_hover", num_runs=len(each)) for each in speeds.values()],
            mode="lines+markers",
            line={"color": colour, "dash": "dot" if mode == "ar" else "solid"},
            hovertemplate="%{y:,.1f} tok/s, %{customdata}<extra>" + name + "</extra>",
            name=name,
        )
    # Categories, not a time axis: that one shows microseconds where all runs are of one minute.
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=steps)
    figure.update_yaxes(rangemode="tozero")
    return figure


def chart_published(runs: Sequence[RunRecord], sheets: Sequence[Sheet]) -> go.Figure:
    """Published speedups of each task beside this machine's own, and those of all prompts here."""
    figure = build_figure(texts.say("published_title"), "", texts.say("speedup_y"))
    told = [sheet for sheet in sheets if any(row.speedup for row, _ in sheet.rows)][:MAX_LINES]
    if not told:
        drafted = any(run.start.mode != "ar" for run in runs)
        return explain_empty(
            figure, texts.say("no_published") if drafted else say_none(runs, "no_drafts")
        )
    several = len(told) > 1
    for index, sheet in enumerate(told):
        prefix = f"{escape_html(sheet.pair.name)}: " if several else ""
        colour = PALETTE[index % len(PALETTE)]
        every = texts.say("your_prompts")
        published = [(row.task, row.speedup) for row, _ in sheet.rows if row.speedup]
        measured = [(row.task, own.speedup) for row, own in sheet.rows if own.speedup]
        measured += [(every, sheet.every.speedup)] if sheet.every.speedup else []
        for label, points, opacity in (
            (texts.say("published"), published, 0.4),
            (texts.say("measured"), measured, 1.0),
        ):
            figure.add_bar(
                x=[escape_html(task) for task, _ in points],
                y=[speedup for _, speedup in points],
                name=prefix + label,
                hovertemplate="%{x}: %{y:.2f}×<extra>" + prefix + label + "</extra>",
                marker={"color": colour, "opacity": opacity},
            )
    if any(sheet.here is not True for sheet in told):
        figure.update_layout(title_subtitle={"text": texts.say("other_hardware_note")})
    return _from_one(figure)


def say_left_out(figure: go.Figure, num_others: int) -> go.Figure:
    """The figure with a note that runs of other machines are not in it."""
    if num_others and figure.data:
        figure.update_layout(title_subtitle={"text": texts.say("left_out", num_runs=num_others)})
    return figure


def _from_one(figure: go.Figure) -> go.Figure:
    """With a line at 1: below it drafting lost."""
    figure.add_hline(y=1, line_dash="dot", line_color=NEUTRAL)
    figure.update_yaxes(rangemode="tozero", ticksuffix="×")
    return figure


def _why_no_speedup(runs: Sequence[RunRecord]) -> str:
    modes = {run.start.mode for run in runs}
    if "dflash" not in modes:
        return say_none(runs, "no_drafts")
    return texts.say("no_baseline" if "ar" not in modes else "nothing_compares")


def _step(when: datetime, version: str, *, hourly: bool) -> str:
    local = when.astimezone()
    time = f"{local:%Y-%m-%d %H}:00" if hourly else f"{local:%Y-%m-%d}"
    return f"{time}<br>{escape_html(version)}"


def _most_run(runs: Sequence[RunRecord]) -> list[str]:
    counts: dict[str, int] = defaultdict(int)
    for run in runs:
        counts[run.start.pair] += 1
    return sorted(counts, key=lambda pair: -counts[pair])[:MAX_LINES]
