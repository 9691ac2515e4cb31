"""Charts draw what the log holds, with units and ticks that fit, and say why they are empty."""

from collections.abc import Callable
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from dflash_app.metrics import summarize
from dflash_app.store.records import RunRecord, RunStart
from dflash_app.ui import charts
from tests.fakes import script_of


def record(run_id: int, mode: str, *, pair: str = "tiny", num_prompt_tokens: int = 4) -> RunRecord:
    drafting = mode == "dflash"
    script = script_of((2, 3, 4), (5, 6, 7), num_draft=3) if drafting else script_of((2,), (3,))
    events = [event for event in script if not hasattr(event, "text")]
    start = RunStart(
        source="race", pair=pair, backend="torch", device="cpu", dtype="float32", mode=mode,
        messages=({"role": "user", "content": "hi"},),
    )  # fmt: skip
    metrics = replace(summarize(events), num_prompt_tokens=num_prompt_tokens)
    return RunRecord(run_id, start, "stop", None, "", (), metrics, None)


def test_speed_is_the_median_by_pair_and_mode() -> None:
    figure = charts.chart_speed([record(1, "ar"), record(2, "dflash"), record(3, "dflash")])
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name["AR (no drafter)"].y) == [4.0]
    assert list(by_name["DFlash"].y) == [12.0]
    assert list(by_name["DFlash"].customdata) == ["median of 2 runs"]
    assert figure.layout.yaxis.title.text == "tok/s"


def test_acceptance_counts_steps_and_positions() -> None:
    runs = [record(1, "dflash"), record(2, "ar")]
    assert list(charts.chart_acceptance_histogram(runs).data[0].y) == [0, 0, 1.0, 0]
    figure = charts.chart_acceptance_by_position(runs)
    assert list(figure.data[0].y) == [1.0, 1.0, 0.0]
    assert figure.layout.xaxis.dtick == 1, "there is no draft position 1.5"


def test_speed_against_context_counts_prompt_and_output() -> None:
    figure = charts.chart_context([record(1, "ar"), record(2, "dflash", num_prompt_tokens=13)])
    points = {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in figure.data}
    assert points == {"AR (no drafter)": [(7, 4.0)], "DFlash": [(20, 12.0)]}
    assert figure.layout.xaxis.type == "linear"


def test_lengths_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    runs = [record(1, "ar"), record(2, "ar", num_prompt_tokens=100_000)]
    assert charts.chart_context(runs).layout.xaxis.type == "log"


DRAW = [
    charts.chart_speed, charts.chart_context, charts.chart_acceptance_histogram,
    charts.chart_acceptance_by_position,
]  # fmt: skip


def test_an_empty_log_is_said_in_every_chart() -> None:
    for draw in DRAW:
        figure = draw([])
        assert "yet" in figure.layout.annotations[0].text
        assert figure.data == ()


def test_a_log_without_drafts_says_so() -> None:
    for draw in DRAW[2:]:
        assert "drafted" in draw([record(1, "ar")]).layout.annotations[0].text


@pytest.mark.parametrize("draw", DRAW)
def test_no_figure_has_a_background_or_fetches_a_font(
    draw: Callable[[list[RunRecord]], go.Figure],
) -> None:
    figure = draw([record(1, "dflash")])
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert "system-ui" in figure.layout.font.family
    assert "http" not in figure.to_json()


def test_a_pairs_name_is_no_markup() -> None:
    hostile = record(1, "ar", pair="<b>x</b>")
    assert charts.chart_speed([hostile]).data[0].x[0] == "&lt;b&gt;x&lt;/b&gt;"
    assert charts.chart_context([hostile]).data[0].text[0] == "&lt;b&gt;x&lt;/b&gt;, #1"
