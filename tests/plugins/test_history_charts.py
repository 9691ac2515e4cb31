"""The history's charts: only what compares is compared, and each says why it is empty."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dflash_app.registry.pair import Pair
from tests.plugins.history_tab import History, add_run, history, part
from tests.ui.conftest import StageOpener
from tests.ui.stage import two_lanes

__all__ = ["history"]

OTHER = {"cpu": "another", "cores": 64}


@pytest.fixture
def empty(open_stage: StageOpener) -> History:
    return History(open_stage(two_lanes))


def race(history: History, group: str, ar: float, dflash: float, **start: Any) -> None:
    known = {"group_id": group, "source": "race", "prompt": group} | start
    add_run(history.workspace, speed=ar, **known)
    add_run(history.workspace, speed=dflash, length=4.0, **known | {"mode": "dflash"})


def ratios(history: History) -> list[float]:
    runs = history.workspace.store.list_runs()
    return [each.ratio for each in part("speedups").find_speedups(runs)]


def test_lanes_of_one_race_compare(history: History) -> None:
    found = part("speedups").find_speedups(history.workspace.store.list_runs())
    assert [(each.run.id, each.ratio, each.raced) for each in found] == [(2, 3.0, True)]


def test_runs_of_one_prompt_compare_with_the_median_of_the_plain_ones(empty: History) -> None:
    for speed in (4.0, 5.0, 60.0):
        add_run(empty.workspace, speed=speed)
    add_run(empty.workspace, speed=20.0, mode="dflash")
    assert ratios(empty) == [4.0]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "other"}, {"pair": "second"}, {"backend": "mlx"}, {"device": "cuda:0"},
        {"dtype": "bfloat16"}, {"quantization": "nf4"}, {"hardware": OTHER}, {"temperature": 0.5},
        {"thinking": "on"}, {"max_new_tokens": 9}, {"source": "cli"}, {"target_revision": "b"},
        {"end": "cancelled"}, {"speed": None},
    ],
)  # fmt: skip
def test_what_is_not_alike_does_not_compare(empty: History, change: dict[str, Any]) -> None:
    add_run(empty.workspace)
    add_run(empty.workspace, **{"mode": "dflash", "source": "race"} | change)
    assert ratios(empty) == []


def test_speedups_are_drawn_by_pair_and_task(empty: History) -> None:
    race(empty, "a", 10, 30)
    race(empty, "b", 10, 50)
    race(empty, "c", 10, 20, pair="second", task="GSM8K")
    figure = empty.charts()["chart-speedup"]
    drawn = {trace.name: dict(zip(trace.x, trace.y, strict=True)) for trace in figure.data}
    assert drawn == {"no task": {"scripted": 4.0}, "GSM8K": {"second": 2.0}}
    assert figure.data[0].customdata[0] == "2 runs, 3.00× to 5.00×"


def test_runs_of_other_machines_are_left_out_and_told(empty: History) -> None:
    race(empty, "a", 10, 30)
    race(empty, "b", 10, 90, hardware=OTHER)
    shown = empty.charts()
    for name in ("speedup", "speed", "trend", "context"):
        assert (
            "Left out: 2 runs of other machines"
            in shown[f"chart-{name}"].layout.title.subtitle.text
        )
    assert list(shown["chart-speedup"].data[0].y) == [3.0]


def test_a_log_of_another_machine_alone_is_drawn_as_its_own(empty: History) -> None:
    race(empty, "b", 10, 90, hardware=OTHER)
    figure = empty.charts()["chart-speedup"]
    assert list(figure.data[0].y) == [9.0]
    assert figure.layout.title.subtitle.text is None


def test_the_trend_has_steps_of_days_or_hours_and_never_less(empty: History) -> None:
    noon = datetime(2026, 5, 2, 12, 30, tzinfo=UTC).astimezone()
    for minutes in (0, 1):
        add_run(empty.workspace, speed=10.0 + minutes, app_version="1.0",
                started_at=noon + timedelta(minutes=minutes))  # fmt: skip
    add_run(empty.workspace, app_version="1.1", started_at=noon, speed=20.0)
    axis = empty.charts()["chart-trend"].layout.xaxis
    hour = f"{noon:%Y-%m-%d %H}:00"
    assert axis.type == "category"
    assert list(axis.categoryarray) == [f"{hour}<br>1.0", f"{hour}<br>1.1"]
    add_run(empty.workspace, app_version="1.1", started_at=noon + timedelta(days=5))
    figure = empty.charts()["chart-trend"]
    later = noon + timedelta(days=5)
    assert list(figure.data[0].x) == [
        f"{noon:%Y-%m-%d}<br>1.0", f"{noon:%Y-%m-%d}<br>1.1", f"{later:%Y-%m-%d}<br>1.1",
    ]  # fmt: skip
    assert list(figure.data[0].y) == [10.5, 20.0, 10.0]


def test_published_figures_stand_beside_measured_ones_with_their_source(empty: History) -> None:
    race(empty, "a", 10, 30, pair="absent", task="gsm-8k")
    race(empty, "b", 10, 50, pair="absent")
    shown = empty.charts()
    figure, drawn = shown["chart-published"], shown["history-published"]
    bars = {trace.name: dict(zip(trace.x, trace.y, strict=True)) for trace in figure.data}
    assert bars == {
        "published": {"GSM8K": 5.15},
        "measured here": {"GSM8K": 3.0, "all prompts here": 4.0},
    }
    assert "other hardware" in figure.layout.title.subtitle.text
    assert "Published in: a paper. Setup not told." in drawn
    assert "hardware not told" in drawn
    assert '<td class="number">5.15×</td><td class="number">3.00×</td>' in drawn


def test_the_table_for_this_hardware_is_taken_and_says_so(history: History) -> None:
    pair = Pair.model_validate(
        {
            "name": "p", "title": "P", "family": "qwen3", "block_size": 16,
            "target": {"repo": "a/b"},
            "benchmarks": (
                {"source": "one", "setup": "on an H200", "results": (
                    {"task": "X", "speedup": 2.0}, {"task": "Y", "speedup": 3.0},
                )},
                {"source": "two", "setup": "on a B200", "results": (
                    {"task": "X", "speedup": 4.0}, {"task": "X", "speedup": 9.0, "concurrency": 8},
                    {"task": "X", "speedup": 9.0, "block_size": 8},
                )},
            ),
        }
    )  # fmt: skip
    add_run(history.workspace, mode="dflash", pair="p")
    runs = history.workspace.store.list_runs()
    build_sheets = part("published").build_sheets
    (sheet,) = build_sheets([pair], runs, [], ["NVIDIA B200"])
    assert (sheet.table.source, sheet.here, [row.speedup for row, _ in sheet.rows]) == (
        "two", True, [4.0],
    )  # fmt: skip
    (sheet,) = build_sheets([pair], runs, [], [])
    assert (sheet.table.source, sheet.here) == ("one", False)
    assert "this hardware" not in part("sheets").render_sheets([sheet])


def test_each_empty_chart_says_why(empty: History) -> None:
    def said(name: str) -> str:
        return str(empty.charts()[f"chart-{name}"].layout.annotations[0].text).replace("<br>", " ")

    add_run(empty.workspace)
    assert "none of these drafted" in said("speedup")
    assert "none of these drafted" in said("published")
    assert "none of these drafted" in said("positions")
    add_run(empty.workspace, mode="dflash", prompt="other")
    assert "no plain run had the same pair, machine and prompt" in said("speedup")
    assert "has published figures" in said("published")
    empty.workspace.store.delete_runs([1])
    assert "none of these runs is without drafter" in said("speedup")
    empty.workspace.store.delete_runs([2])
    add_run(empty.workspace, speed=None)
    assert "two tokens or more" in said("trend")


def test_the_newest_runs_are_charted_and_the_limit_is_told(
    empty: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part("view"), "MAX_CHARTED", 2)
    for speed in (1.0, 20.0, 40.0):
        add_run(empty.workspace, speed=speed)
    shown = empty.charts()
    assert "newest 2 runs" in shown["history-charts-notice"]
    assert list(shown["chart-speed"].data[0].y) == [30.0]
