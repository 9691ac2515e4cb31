"""Two benchmarks compared on the page: earlier ones and files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dflash_plugins.benchmark.compared import render_comparison
from dflash_plugins.benchmark.jsonl import MAX_FILE_BYTES
from dflash_plugins.benchmark.regression import compare
from dflash_plugins.benchmark.results import to_json

from tests.plugins.benchmark.bench_tab import Bench as Tab
from tests.plugins.benchmark.conftest import Bench
from tests.plugins.benchmark.measured import drafted, rows, two_cells
from tests.ui.loops import close_loops

__all__ = ["close_loops"]

BEFORE = two_cells(rows([100.0] * 10), drafted([300.0] * 10))
SLOWER = two_cells(rows([100.0] * 10), drafted([200.0] * 10))


@pytest.fixture
def tab(bench: Bench) -> Tab:
    return Tab(bench.workspace)


def compared(tab: Tab, before: str | None, after: str | None, brought: Any = ()) -> str:
    updates = list(tab.tab.comparing.on_compare(before, after, brought, tab.asking))
    told = [tab.note(update) for update in updates]
    assert "Comparing" in told[0]["bench-compared"]
    assert told[-1]["bench-compare-start"].interactive
    return str(told[-1]["bench-compared"])


def brought(tab: Tab, *paths: Path) -> Any:
    update = tab.tab.comparing.on_upload([str(path) for path in paths], tab.asking)
    tab.note(update)
    return update[tab.tab.comparing.brought]


def test_two_earlier_ones_are_offered_and_compared(tab: Tab, questions: Path) -> None:
    for number in (1, 2):
        tab.shown = {}
        tab.start(files=[str(questions)])
        tab.follow(f"Benchmark {number} is finished")
    offered = tab.shown["bench-before"]["choices"]
    assert [value for _, value in offered] == ["2", "1"]
    assert offered[0][0].startswith("2: embedded, mine.jsonl")
    told = compared(tab, "1", "2")
    assert "Benchmark 1 against Benchmark 2" in told
    assert "4 prompts in both, 0 with another output." in told
    assert "too few" in told
    assert "Both are the same benchmark" in compared(tab, "1", "1")
    assert "Choose two benchmarks" in compared(tab, None, "1")
    assert "Choose two benchmarks" in compared(tab, "../1", "1")


def test_files_of_another_machine_are_compared_and_a_regression_is_said_first(
    tab: Tab, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "<b>new.json"
    old.write_text(to_json(BEFORE))
    new.write_text(to_json(SLOWER))
    files = brought(tab, old, new)
    assert [name for name, _ in tab.shown["bench-after"]["choices"]] == ["old.json", "<b>new.json"]
    told = compared(tab, "file 0", "file 1", files)
    assert "Regression. gsm8k, DFlash, 1 at a time: Speedup, Decoding, End to end." in told
    assert '<span class="badge worse">worse</span>' in told
    assert "<b>new" not in told
    written = tab.tab.comparing.on_markdown(compare(BEFORE, SLOWER, ("old.json", "new.json")))
    assert Path(written or "").read_text().startswith("# old.json against new.json")
    assert "No regression." in compared(tab, "file 1", "file 0", files)
    assert "bring it again" in compared(tab, "file 7", "file 0", files)


def test_what_holds_no_results_is_refused_without_its_place(tab: Tab, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    assert brought(tab, broken) == ()
    assert "broken.json holds no results of a benchmark" in tab.shown["bench-compared"]
    assert str(tmp_path) not in tab.shown["bench-compared"]
    with broken.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert brought(tab, broken) == ()
    assert "broken.json is larger than 64 MB" in tab.shown["bench-compared"]
    assert brought(tab, *[broken] * 5) == ()


def test_what_cannot_be_judged_says_why() -> None:
    other = replace(SLOWER, hardware={"cpu": "<i>M4</i>", "cores": 8})
    told = render_comparison(compare(BEFORE, other, ("a", "b")))
    assert "Different hardware" in told
    assert "Not judged: Speedup, Decoding, End to end." in told
    assert "not comparable" in told
    assert "<i>" not in told
