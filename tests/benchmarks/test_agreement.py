"""The benchmark of the surfaces: each is really run, and a difference is seen."""

from pathlib import Path

import pytest

from benchmarks.agreement import BENCHMARK, PAIR, RACE, judge, measure
from benchmarks.pairs import add_pair
from benchmarks.prompts import Prompt
from dflash_app.settings import load_settings
from dflash_app.store.records import RunFilter
from dflash_app.store.runs import Store
from tests.e2e.tiny_pair import write_tiny_pair


def test_every_surface_decodes_the_prompt_in_both_modes(tmp_path: Path):
    write_tiny_pair(tmp_path / "pair", tmp_path / "unused.yaml")
    add_pair(tmp_path, PAIR, tmp_path / "pair" / "target", tmp_path / "pair" / "drafter")
    results = measure(tmp_path, [Prompt("a", "word word")], rounds=1, max_new_tokens=24, threads=1)
    assert set(results["surfaces"]) == {BENCHMARK, "chat", "race", "command line"}
    for row in results["surfaces"].values():
        assert row["ar"]["median_tok_s"] > 0
        assert row["dflash"]["median_tok_s"] > 0
        one_prompt = row["dflash"]["median_tok_s"] / row["ar"]["median_tok_s"]
        assert row["speedup"]["median"] == pytest.approx(one_prompt)
    with Store(load_settings(tmp_path).database) as store:
        sources = [run.start.source for run in store.list_runs(RunFilter(), limit=99)]
    assert sorted(sources) == ["chat", "chat", "cli", "cli", "race", "race"]


def test_a_surface_that_shows_another_speed_is_named():
    def row(ratio: float | None) -> dict[str, dict[str, float | None]]:
        return {"ar": {"median_tok_s": 100.0, "of_benchmark": ratio}}

    surfaces = {
        BENCHMARK: row(1.0),
        "chat": row(0.95),
        "race": row(1.11),
        "command line": row(None),
    }
    checks = judge({"surfaces": surfaces})
    assert [check.met for check in checks] == [True, False, False]
    assert checks[1].name.startswith("race")


def test_the_races_speedup_is_held_against_that_of_runs_one_after_the_other():
    row = {"speedup": {"median": 2.0, "of_benchmark": 0.8}}
    (check,) = judge({"surfaces": {BENCHMARK: row, "chat": row, RACE: row}})
    assert check.name.startswith("race, speedup")
    assert not check.met
