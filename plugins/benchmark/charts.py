"""Charts of a benchmark's results. Where there is nothing to draw, a chart says why."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import plotly.graph_objects as go

from dflash_app.ui.charts import COLOURS, NEUTRAL, PALETTE, build_figure, explain_empty
from dflash_app.ui.format import escape_html, format_ratio
from dflash_app.ui.language import Texts

from .paired import complete
from .published import Beside
from .remarks import WORDS, Remark
from .report import Line, Report
from .results import BenchmarkResults, CellResult

_texts = Texts.load("benchmark-charts", Path(__file__).with_name("charts.yaml"))
_remarks = Texts.load("benchmark-report", WORDS)
_DASHES = ("solid", "dash", "dot", "dashdot")
_MARKS = {True: "diamond", False: "diamond-open"}


def say_remark(remark: Remark) -> str:
    """A remark in the language of the browser whose event is being answered; not escaped."""
    return _remarks.say(remark.key, **remark.values)


def chart_speedups(report: Report) -> go.Figure:
    """The speedup of each way of drafting by data set, published ones as marks beside it."""
    figure = build_figure(_texts.say("speedup_title"), "", _texts.say("speedup_y"))
    lines = [line for line in report.lines if line.speedup is not None]
    if not lines:
        return explain_empty(figure, _texts.say("no_speedup"))
    colours, levels = _colours(report), sorted({line.concurrency for line in lines})
    for name, found in _groups(lines).items():
        figure.add_bar(
            x=[escape_html(line.dataset) for line in found],
            y=[line.speedup for line in found],
            error_y=_spread(found),
            customdata=[_say_spread(line) for line in found],
            hovertemplate="%{x}: %{y:.2f}×<br>%{customdata}<extra>" + name + "</extra>",
            name=name,
            offsetgroup=name,
            marker_color=colours[found[0].method],
            opacity=_opacity(found[0].concurrency, levels),
        )
        _mark_published(figure, name, _published_for(found, report))
    figure.update_layout(scattermode="group")
    if any(each.published_speedup for each in report.published):
        figure.update_layout(title_subtitle={"text": _texts.say("published_note")})
    figure.add_hline(y=1, line_dash="dot", line_color=NEUTRAL)
    figure.update_yaxes(rangemode="tozero", ticksuffix="×")
    return figure


def chart_concurrency(report: Report) -> go.Figure:
    """Throughput, prefill included, against the number of requests at a time."""
    figure = build_figure(_texts.say("concurrency_title"), _texts.say("concurrency_x"), "tok/s")
    lines = [line for line in report.lines if line.end_to_end_tok_s is not None]
    if not lines:
        return explain_empty(figure, _texts.say("no_answers"))
    colours = _colours(report)
    datasets = list(dict.fromkeys(line.dataset for line in lines))
    for dataset in datasets:
        for method in dict.fromkeys(line.method for line in lines):
            found = [each for each in lines if (each.dataset, each.method) == (dataset, method)]
            if not found:
                continue
            label = escape_html(found[0].label)
            name = label if len(datasets) == 1 else f"{escape_html(dataset)}, {label}"
            figure.add_scatter(
                x=[line.concurrency for line in found],
                y=[line.end_to_end_tok_s for line in found],
                mode="lines+markers",
                line={
                    "color": colours[method],
                    "dash": _DASHES[datasets.index(dataset) % len(_DASHES)],
                },
                hovertemplate="%{x}: %{y:,.1f} tok/s<extra>" + name + "</extra>",
                name=name,
            )
    levels = sorted({line.concurrency for line in lines})
    figure.update_xaxes(type="log", tickvals=levels, ticktext=[f"{level:,}" for level in levels])
    figure.update_yaxes(rangemode="tozero")
    return figure


def chart_lengths(results: BenchmarkResults) -> go.Figure:
    """How often a step accepted 0, 1, 2, ... drafts, by data set and way of drafting."""
    figure = build_figure(*map(_texts.say, ("lengths_title", "lengths_x", "lengths_y")))
    cells = _drafting(results)
    if not cells:
        return explain_empty(figure, _texts.say("no_drafts"))
    for index, (name, counts) in enumerate(cells):
        total = sum(counts)
        figure.add_bar(
            x=list(range(len(counts))),
            y=[count / total for count in counts],
            name=name,
            marker_color=PALETTE[index % len(PALETTE)],
            hovertemplate="%{x}: %{y:.1%}<extra>" + name + "</extra>",
            showlegend=len(cells) > 1,
        )
    figure.update_yaxes(tickformat=".0%")
    return _whole_numbers(figure, max(len(counts) for _, counts in cells))


def chart_positions(results: BenchmarkResults) -> go.Figure:
    """The share of steps that accepted at least k drafts, by data set and way of drafting."""
    figure = build_figure(*map(_texts.say, ("positions_title", "positions_x", "positions_y")))
    cells = _drafting(results)
    if not cells:
        return explain_empty(figure, _texts.say("no_drafts"))
    for index, (name, counts) in enumerate(cells):
        total = sum(counts)
        figure.add_scatter(
            x=list(range(1, len(counts))),
            y=[sum(counts[position:]) / total for position in range(1, len(counts))],
            name=name,
            mode="lines+markers",
            line_color=PALETTE[index % len(PALETTE)],
            hovertemplate="%{x}: %{y:.0%}<extra>" + name + "</extra>",
            showlegend=len(cells) > 1,
        )
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return _whole_numbers(figure, max(len(counts) for _, counts in cells))


def chart_first_token(results: BenchmarkResults) -> go.Figure:
    """How time to first token is spread over prompts."""
    return _chart_times(results, "ttft_s", "ttft_title")


def chart_token_times(results: BenchmarkResults) -> go.Figure:
    """How time per output token is spread over prompts."""
    return _chart_times(results, "tpot_s", "tpot_title")


def _chart_times(results: BenchmarkResults, name: str, title: str) -> go.Figure:
    """A box for each way of decoding: quartiles, the median, and most of the rest."""
    figure = build_figure(_texts.say(title), "", _texts.say("milliseconds"))
    methods = list(dict.fromkeys(cell.method for cell in results.cells))
    levels = sorted({cell.concurrency for cell in results.cells})
    for cell in results.cells:
        times = [getattr(row, name) for row in complete(cell.rows).values()]
        known = [time * 1e3 for time in times if time is not None]
        if not known:
            continue
        label = escape_html(cell.label)
        if len(levels) > 1:
            label += f", {_texts.say('at_a_time', concurrency=cell.concurrency)}"
        figure.add_box(
            x=[escape_html(cell.dataset)] * len(known),
            y=known,
            name=label,
            legendgroup=label,
            offsetgroup=label,
            showlegend=all(trace.name != label for trace in figure.data),
            boxpoints=False,
            marker_color=_colour(cell.method, methods),
            opacity=_opacity(cell.concurrency, levels),
        )
    if not figure.data:
        return explain_empty(figure, _texts.say("no_answers"))
    figure.update_layout(boxmode="group")
    figure.update_yaxes(rangemode="tozero")
    return figure


def _mark_published(figure: go.Figure, group: str, published: Sequence[Beside]) -> None:
    """Marks over the bars of one way of decoding, filled where the settings are the same."""
    for alike, symbol in _MARKS.items():
        told = [each for each in published if each.published_speedup and each.alike is alike]
        name = _texts.say("published", label=_texts.say("like" if alike else "unlike"))
        if told:
            figure.add_scatter(
                x=[escape_html(each.dataset) for each in told],
                y=[each.published_speedup for each in told],
                mode="markers",
                marker={"symbol": symbol, "size": 11, "color": PALETTE[2]},
                customdata=["<br>".join(_say_published(each)) for each in told],
                hovertemplate="%{y:.2f}×<br>%{customdata}<extra></extra>",
                name=name,
                offsetgroup=group,
                legendgroup=name,
                showlegend=all(trace.name != name for trace in figure.data),
            )


def _published_for(lines: Sequence[Line], report: Report) -> list[Beside]:
    places = {(line.dataset, line.method, line.concurrency) for line in lines}
    return [
        each for each in report.published if (each.dataset, each.method, each.concurrency) in places
    ]


def _say_published(each: Beside) -> list[str]:
    """What a mark's figure counts, the same of this machine, its source, and what differs."""
    key = "decoding" if each.kind == "decoding" else "end_to_end"
    kind = _texts.say(key, measured=format_ratio(each.measured_speedup))
    told = (kind, each.source, each.setup, *map(say_remark, each.differences))
    return [escape_html(text) for text in told if text]


def _groups(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Lines by way of decoding and, where there are several, by concurrency."""
    several = len({line.concurrency for line in lines}) > 1
    groups: dict[str, list[Line]] = {}
    for line in lines:
        name = escape_html(line.label)
        if several:
            name += f", {_texts.say('at_a_time', concurrency=line.concurrency)}"
        groups.setdefault(name, []).append(line)
    return groups


def _opacity(concurrency: int, levels: Sequence[int]) -> float:
    """The more at a time, the paler."""
    return 1 - 0.6 * levels.index(concurrency) / max(1, len(levels) - 1)


def _spread(lines: Sequence[Line]) -> dict[str, object]:
    quartiles = [line.speedup_quartiles or (line.speedup or 0.0,) * 2 for line in lines]
    above = [high - (line.speedup or 0.0) for line, (_, high) in zip(lines, quartiles, strict=True)]
    below = [(line.speedup or 0.0) - low for line, (low, _) in zip(lines, quartiles, strict=True)]
    return {"array": above, "arrayminus": below, "symmetric": False, "color": NEUTRAL}


def _say_spread(line: Line) -> str:
    low, high = line.speedup_quartiles or (None, None)
    return _texts.say(
        "speedup_hover",
        low=format_ratio(low),
        high=format_ratio(high),
        num_pairs=f"{line.num_pairs or 0:,}",
    )


def _drafting(results: BenchmarkResults) -> list[tuple[str, tuple[int, ...]]]:
    """Name and steps by accepted drafts of each cell that drafted, of one concurrency.

    Batching does not change what is accepted: the lowest stands for all.
    """
    lowest = min((cell.concurrency for cell in results.cells), default=1)
    cells = [
        cell
        for cell in results.cells
        if cell.concurrency == lowest and any(cell.figures.acceptance_histogram)
    ]
    return [(_name(cell), cell.figures.acceptance_histogram) for cell in cells]


def _name(cell: CellResult) -> str:
    return f"{escape_html(cell.dataset)}, {escape_html(cell.label)}"


def _colours(report: Report) -> dict[str, str]:
    methods = list(dict.fromkeys(line.method for line in report.lines))
    return {method: _colour(method, methods) for method in methods}


def _colour(method: str, methods: Sequence[str]) -> str:
    if method == "ar":
        return COLOURS["ar"]
    drafting = [each for each in methods if each != "ar"]
    return PALETTE[drafting.index(method) % len(PALETTE)]


def _whole_numbers(figure: go.Figure, num_values: int) -> go.Figure:
    figure.update_xaxes(dtick=max(1, ceil(num_values / 16)))
    return figure
