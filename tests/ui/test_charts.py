"""Charts draw what the log holds, like with like, and say so where it holds nothing."""

from dflash_app.metrics import summarize
from dflash_app.store.records import RunRecord, RunStart
from dflash_app.ui import charts
from tests.fakes import script_of


def record(run_id: int, mode: str, *, pair: str = "tiny", group: str | None = None) -> RunRecord:
    drafting = mode == "dflash"
    script = script_of((2, 3, 4), (5, 6, 7), num_draft=3) if drafting else script_of((2,), (3,))
    events = [event for event in script if not hasattr(event, "text")]
    start = RunStart(
        source="race", pair=pair, backend="torch", device="cpu", dtype="float32", mode=mode,
        messages=({"role": "user", "content": "hi"},), group_id=group,
    )  # fmt: skip
    return RunRecord(run_id, start, "stop", None, "", (), summarize(events), None)


def test_speed_is_the_median_by_pair_and_mode() -> None:
    figure = charts.chart_speed([record(1, "ar"), record(2, "dflash"), record(3, "dflash")])
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name["AR (no drafter)"].y) == [4.0]
    assert list(by_name["DFlash"].y) == [12.0]
    assert list(by_name["DFlash"].customdata) == [2]


def test_speedup_pairs_the_lanes_of_one_race_only() -> None:
    runs = [record(1, "ar", group="a"), record(2, "dflash", group="a"), record(3, "dflash")]
    assert list(charts.chart_speedup(runs).data[0].y) == [3.0]


def test_acceptance_counts_steps_and_positions() -> None:
    runs = [record(1, "dflash"), record(2, "ar")]
    assert list(charts.chart_acceptance_histogram(runs).data[0].y) == [0, 0, 1.0, 0]
    assert list(charts.chart_acceptance_by_position(runs).data[0].y) == [1.0, 1.0, 0.0]


def test_an_empty_log_is_said_in_every_chart() -> None:
    for draw in (
        charts.chart_speed, charts.chart_speedup, charts.chart_acceptance_histogram,
        charts.chart_acceptance_by_position,
    ):  # fmt: skip
        figure = draw([])
        assert "yet" in figure.layout.annotations[0].text


def test_a_pairs_name_is_no_markup() -> None:
    figure = charts.chart_speed([record(1, "ar", pair="<b>x</b>")])
    assert figure.data[0].x[0] == "&lt;b&gt;x&lt;/b&gt;"
