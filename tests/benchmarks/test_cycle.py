"""The cycle's benchmark on a tiny pair: it runs both paths, compares their outputs, and adds up."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from benchmarks import cycle_parts, lane_times
from benchmarks.bandwidth import multiply_flop_s, read_bytes_s
from benchmarks.cycle import judge, measure, print_results
from benchmarks.paths import FAST, MODULES, load_paths
from benchmarks.time_shares import profile_steps
from dflash_app.settings import EMBEDDED_DIR
from tests.e2e.tiny_pair import write_tiny_pair

CPU = torch.device("cpu")


def test_both_paths_are_measured_on_the_same_replies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(lane_times, "NUM_WARM_UP", 1)
    monkeypatch.setattr(lane_times, "NUM_PROFILED", 2)
    monkeypatch.setattr(cycle_parts, "NUM_GROWTH_STEPS", 2)
    monkeypatch.setattr(cycle_parts, "NUM_PROFILES", 1)
    write_tiny_pair(tmp_path / "pair", tmp_path / "model_registry.yaml")
    target, drafter = tmp_path / "pair" / "target", tmp_path / "pair" / "drafter"
    results = measure(
        target, drafter, num_prompts=1, rounds=2, max_new_tokens=12, threads=torch.get_num_threads()
    )
    assert results["num_different_outputs"] == 0
    assert results["num_pairs"] == 4
    assert set(results["paths"]) == {MODULES, FAST}
    for figures in results["paths"].values():
        parts = figures["draft"] + figures["verify forward"] + figures["host gap of a cycle"]
        assert parts == pytest.approx(figures["DFlash cycle"])
        assert 1 <= figures["tokens a cycle"] <= 16
        assert all(0 < figures[f"share outside products, {mode}"] < 1 for mode in ("ar", "dflash"))
    for growth in results["growth"].values():
        assert list(growth["contexts"]) == ["64", "512", "1792"]
        assert all(each["attention"] > 0 for each in growth["contexts"].values())
    print_results(results, judge(results))
    assert "a whole cycle, in AR steps of the modules" in capsys.readouterr().out


def test_a_cycle_is_judged_by_the_modules_ar_step_and_growth_by_what_is_no_attention():
    def results(cycle: float, growth: float) -> dict[str, object]:
        paths = {FAST: {"DFlash cycle": cycle}, MODULES: {"AR step": 1.78}}
        grown = {"ar": {"growth": growth}, "dflash": {"growth": 1.0}}
        return {"paths": paths, "growth": grown, "num_different_outputs": 0}

    assert [check.met for check in judge(results(1.75, 1.05))] == [True, True, True, True]
    assert [check.met for check in judge(results(1.76, 2.01))] == [False, False, True, True]


def test_the_profile_tells_products_attention_and_the_rest_apart():
    states, keys = torch.ones(64, 64), torch.ones(1, 2, 2048, 32)
    product = profile_steps(lambda: states @ states, 4, CPU)
    attention = profile_steps(lambda: F.scaled_dot_product_attention(keys, keys, keys), 4, CPU)
    rest = profile_steps(lambda: states.exp().cumsum(0), 4, CPU)
    assert product.products_s > 0 == product.attention_s
    assert attention.attention_s > 0.9 * sum(attention)
    assert rest.outside == 1.0


def test_memory_is_read_at_a_rate_that_memory_can_have():
    assert 1e8 < read_bytes_s(CPU) < 1e13


def test_products_are_taken_at_a_rate_that_a_processor_can_have():
    assert 1e8 < multiply_flop_s(CPU) < 1e14


def test_weights_that_a_step_reads_are_counted_once():
    paths = load_paths(EMBEDDED_DIR / "target", EMBEDDED_DIR / "drafter")
    modules, fast = paths[MODULES], paths[FAST]
    # 4.85 M parameters but for the norms, the tied embedding as head.
    assert modules.target_bytes == 4 * (8 * (512 * 256 + 256**2 + 3 * 448 * 256) + 2048 * 256)
    assert fast.target_bytes in (modules.target_bytes, modules.target_bytes / 2)
