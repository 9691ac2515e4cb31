"""A benchmark's charts draw the figures of its report, and say why they are empty."""

from dataclasses import replace

import plotly.graph_objects as go
import pytest
from dflash_plugins.benchmark import charts
from dflash_plugins.benchmark.cells import methods
from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.report import build_report
from dflash_plugins.benchmark.results import BenchmarkResults

from tests.plugins.benchmark.measured import cell, drafted, results, rows, two_cells
from tests.plugins.benchmark.test_published import PAPER, publish


def swept() -> BenchmarkResults:
    """Two data sets at 1 and 8 requests at a time; drafting is 4 and 2 times as fast."""
    plan = Plan(pair="qwen3-8b", datasets=("gsm8k", "mbpp"), thinking="off", concurrency=(1, 8))
    ar, dflash = methods(plan)
    cells = []
    for dataset in plan.datasets:
        for level, speed in ((1, 40), (8, 20)):
            plain = rows([10, 10])
            cells.append(cell(ar, dataset, plain, concurrency=level))
            cells.append(cell(dataset=dataset, method=dflash, answered=drafted([speed] * 2),
                              plain=plain, concurrency=level))  # fmt: skip
    return results(cells, plan)


def nothing() -> BenchmarkResults:
    return two_cells([], [])


def drawn(figure: go.Figure) -> dict[str, dict[object, object]]:
    return {trace.name: dict(zip(trace.x, trace.y, strict=True)) for trace in figure.data}


def said(figure: go.Figure) -> str:
    return figure.layout.annotations[0].text.replace("<br>", " ")


def test_speedups_stand_by_data_set_and_concurrency_with_published_marks_over_them() -> None:
    pair = publish(PAPER, {"speedup": 5.15, "concurrency": 1})
    figure = charts.chart_speedups(build_report(swept(), [pair]))
    assert drawn(figure) == {
        "DFlash, 1 at a time": {"gsm8k": 4.0, "mbpp": 4.0},
        "published, same settings": {"gsm8k": 5.15},
        "DFlash, 8 at a time": {"gsm8k": 2.0, "mbpp": 2.0},
        "published, other settings": {"gsm8k": 5.15},
    }
    groups = {trace.name: trace.offsetgroup for trace in figure.data}
    assert groups["published, same settings"] == "DFlash, 1 at a time"
    assert groups["published, other settings"] == "DFlash, 8 at a time"
    marks = next(trace for trace in figure.data if trace.name == "published, same settings")
    assert "decoding: 4.00× here<br>table 1<br>Transformers, H200" in marks.customdata[0]
    assert "other people's figures" in figure.layout.title.subtitle.text


def test_without_published_figures_there_is_no_note() -> None:
    figure = charts.chart_speedups(build_report(two_cells(rows([10]), drafted([40])), []))
    assert drawn(figure) == {"DFlash": {"gsm8k": 4.0}}
    assert figure.layout.title.subtitle.text is None


def test_throughput_is_drawn_against_concurrency() -> None:
    report = build_report(swept(), [])
    lines = drawn(charts.chart_concurrency(report))
    assert lines.keys() == {"gsm8k, AR", "gsm8k, DFlash", "mbpp, AR", "mbpp, DFlash"}
    measured = {
        line.concurrency: line.end_to_end_tok_s
        for line in report.lines
        if (line.dataset, line.method) == ("gsm8k", "dflash")
    }
    assert lines["gsm8k, DFlash"] == measured


def test_acceptance_is_drawn_by_length_and_by_position() -> None:
    found = two_cells(rows([10]), drafted([40]))
    counts = (1, 2, 3, 4)
    assert found.cells[1].figures.acceptance_histogram == counts
    assert drawn(charts.chart_lengths(found)) == {"gsm8k, DFlash": {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4}}
    assert drawn(charts.chart_positions(found)) == {"gsm8k, DFlash": {1: 0.9, 2: 0.7, 3: 0.4}}


def test_times_are_boxes_in_milliseconds() -> None:
    figure = charts.chart_token_times(two_cells(rows([10, 20]), drafted([40, 50])))
    assert {trace.name: sorted(trace.y) for trace in figure.data} == {
        "AR": [50, 100],
        "DFlash": [20, 25],
    }
    figure = charts.chart_first_token(swept())
    assert {trace.name for trace in figure.data} == {
        f"{label}, {level} at a time" for label in ("AR", "DFlash") for level in (1, 8)
    }
    assert [trace.showlegend for trace in figure.data] == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("figure", "reason"),
    [
        (charts.chart_speedups(build_report(nothing(), [])), "No speedup to draw"),
        (charts.chart_concurrency(build_report(nothing(), [])), "no prompt is answered"),
        (charts.chart_lengths(nothing()), "No drafts to draw"),
        (charts.chart_positions(nothing()), "No drafts to draw"),
        (charts.chart_first_token(nothing()), "no prompt is answered"),
        (charts.chart_token_times(nothing()), "no prompt is answered"),
    ],
)
def test_an_empty_chart_says_why(figure: go.Figure, reason: str) -> None:
    assert not figure.data
    assert reason in said(figure)


def test_texts_are_inert() -> None:
    found = two_cells(rows([10]), drafted([40]))
    evil = tuple(replace(each, label="<b>x", dataset="<i>y") for each in found.cells)
    found = replace(found, cells=evil)
    report = build_report(found, [])
    for figure in (
        charts.chart_speedups(report), charts.chart_concurrency(report),
        charts.chart_lengths(found), charts.chart_token_times(found),
    ):  # fmt: skip
        assert "<b>x" not in figure.to_json().replace("\\u003c", "<")
        assert "<i>y" not in figure.to_json().replace("\\u003c", "<")
