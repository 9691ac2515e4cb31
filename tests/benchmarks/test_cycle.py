"""The cycle's benchmark on a tiny pair: it runs both paths, compares their outputs, and adds up."""

from pathlib import Path

import pytest

from benchmarks.cycle import measure
from benchmarks.paths import FAST, MODULES, load_paths
from dflash_app.settings import EMBEDDED_DIR
from tests.e2e.tiny_pair import write_tiny_pair


def test_both_paths_are_measured_on_the_same_replies(tmp_path: Path):
    write_tiny_pair(tmp_path / "pair", tmp_path / "model_registry.yaml")
    target, drafter = tmp_path / "pair" / "target", tmp_path / "pair" / "drafter"
    results = measure(target, drafter, num_prompts=1, repeats=2, max_new_tokens=12)
    assert results["num_different_outputs"] == 0
    assert results["num_pairs"] == 4
    assert set(results["paths"]) == {MODULES, FAST}
    for figures in results["paths"].values():
        parts = figures["draft"] + figures["verify forward"] + figures["host gap of a cycle"]
        assert parts == pytest.approx(figures["DFlash cycle"])
        assert 1 <= figures["tokens a cycle"] <= 16
        assert all(0 < figures[f"share outside products, {mode}"] < 1 for mode in ("ar", "dflash"))


def test_weights_that_a_step_reads_are_counted_once():
    paths = load_paths(EMBEDDED_DIR / "target", EMBEDDED_DIR / "drafter")
    modules, fast = paths[MODULES], paths[FAST]
    # 4.85 M parameters but for the norms, the tied embedding as head.
    assert modules.target_bytes == 4 * (8 * (512 * 256 + 256**2 + 3 * 448 * 256) + 2048 * 256)
    assert fast.target_bytes in (modules.target_bytes, modules.target_bytes / 2)
