import json
from pathlib import Path
from typing import Any

import pytest
from dflash_plugins.benchmark.kept import create, sit_down
from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.results import read_results, results, to_json

from dflash_app.errors import RequestError, StoreError
from tests.plugins.benchmark.conftest import Bench

PLAN = Plan(datasets=("mine.jsonl", "bundled"), num_prompts=2, warm_up=0)


def test_results_survive_json(bench: Bench, questions: Path, tmp_path: Path) -> None:
    benchmark_id = create(bench.workspace, PLAN, [questions])
    list(sit_down(bench.workspace, benchmark_id).run())
    found = results(bench.workspace.store, benchmark_id)
    path = tmp_path / "results.json"
    path.write_text(to_json(found))
    assert read_results(path) == found
    assert found.plan == PLAN
    assert [(each.dataset, each.method) for each in found.cells] == [
        ("mine.jsonl", "ar"),
        ("mine.jsonl", "dflash"),
        ("bundled", "ar"),
        ("bundled", "dflash"),
    ]
    assert {row.finish_reason for cell in found.cells for row in cell.rows} == {"stop"}


def test_a_benchmark_that_goes_on_has_results_too(bench: Bench, questions: Path) -> None:
    benchmark_id = create(bench.workspace, PLAN, [questions])
    found = results(bench.workspace.store, benchmark_id)
    assert found.finished_at is None
    assert [cell.rows for cell in found.cells] == [()] * 4
    assert all(cell.num_prompts for cell in found.cells)


def test_runs_that_were_deleted_from_the_log_are_left_out(bench: Bench, questions: Path) -> None:
    benchmark_id = create(bench.workspace, PLAN, [questions])
    list(sit_down(bench.workspace, benchmark_id).run())
    store = bench.workspace.store
    gone = results(store, benchmark_id).cells[0].rows[0].run_id
    store.delete_runs([gone])
    cell = results(store, benchmark_id).cells[0]
    assert gone not in {row.run_id for row in cell.rows}
    assert cell.figures.num_answered == cell.num_prompts - 1


def test_unknown_numbers_and_other_files_are_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no benchmark 9"):
        results(bench.workspace.store, 9)
    with pytest.raises(RequestError, match="cannot be read"):
        read_results(tmp_path / "nothing.json")
    other = tmp_path / "other.json"
    for text in ("{}", "[1, 2", '{"format": 1}', "\xff"):
        other.write_text(text, encoding="latin-1")
        with pytest.raises(RequestError, match="holds no results of a benchmark"):
            read_results(other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "at format: Input should be 1"),
        ({"finished_at": float("nan")}, "at finished_at"),
        ({"plan": {"temperature": float("inf")}}, "temperature must be a number"),
    ],
)
def test_another_format_and_impossible_numbers_are_refused(
    bench: Bench, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    found = json.loads(to_json(results(bench.workspace.store, create(bench.workspace, Plan()))))
    path = tmp_path / "results.json"
    path.write_text(json.dumps(found | change))
    with pytest.raises(RequestError, match=f"results.json holds no results.*{said}"):
        read_results(path)


def test_a_figure_is_a_finite_number(bench: Bench, questions: Path, tmp_path: Path) -> None:
    benchmark_id = create(bench.workspace, PLAN, [questions])
    list(sit_down(bench.workspace, benchmark_id).run())
    found = json.loads(to_json(results(bench.workspace.store, benchmark_id)))
    found["cells"][0]["rows"][0]["total_s"] = float("nan")
    path = tmp_path / "results.json"
    path.write_text(json.dumps(found))
    with pytest.raises(RequestError, match=r"rows\.0\.total_s: Input should be a finite number"):
        read_results(path)
