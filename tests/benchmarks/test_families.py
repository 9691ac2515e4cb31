"""The benchmark of the families: it folds right, and measures the side that it names."""

import shutil

import pytest

from benchmarks.families import (
    ROOT,
    ask_steps,
    checkout,
    open_stepper,
    states_per_tap,
    summarize_rounds,
)
from benchmarks.prefill import HIDDEN_SIZE, NUM_LAYERS, STATE_BYTES, measure_prefill, spread
from benchmarks.rollback import BLOCK_SIZE, measure_rollback
from dflash_app.errors import DFlashAppError

TINY_SHAPE = {
    "hidden_size": 64, "intermediate_size": 64, "linear_num_value_heads": 2,
    "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}  # fmt: skip


def test_rounds_are_compared_one_by_one_and_not_by_their_medians() -> None:
    # The machine slows down over the rounds; each ratio is 1.5 all the same.
    seconds = [0.001, 0.002, 0.004, 0.008, 0.016]
    rounds = [
        {"now": {"ar": 1.5 * s, "dflash": s}, "before": {"ar": s, "dflash": 2 * s}} for s in seconds
    ]
    figures = summarize_rounds(rounds)
    assert figures["ar"]["ratio"] == pytest.approx(1.5)
    assert figures["ar"]["lower_quartile"] == figures["ar"]["upper_quartile"] == pytest.approx(1.5)
    assert figures["dflash"]["ratio"] == 0.5
    assert figures["ar"]["before_ms"] == pytest.approx(4.0)


@pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a git checkout"
)
def test_each_side_runs_the_package_in_its_own_folder() -> None:
    with checkout("HEAD") as folder:
        assert (folder / "dflash_app" / "__init__.py").is_file()
        with open_stepper(folder) as before:
            answer = ask_steps(before)
    assert not folder.exists()
    assert answer["app"] == str(folder / "dflash_app")
    assert 0 < answer["ar"] < answer["dflash"]


def test_a_commit_that_is_not_here_is_one_sentence_with_the_cure() -> None:
    with pytest.raises(DFlashAppError, match="run this in a whole clone"), checkout("0" * 40):
        pass


@pytest.mark.parametrize("kept", [1, BLOCK_SIZE - 1])
def test_going_back_is_set_against_verifying(kept: int) -> None:
    figures = measure_rollback(TINY_SHAPE, repeats=2, kept=kept)
    assert figures["kept"] == kept
    assert figures["part_of_verify"] == figures["rewind_s"] / figures["verify_s"] > 0


def test_taps_are_spread_and_reach_the_last_layer() -> None:
    assert spread(0) == ()
    assert spread(3) == (4, 9, 15)
    assert spread(NUM_LAYERS) == tuple(range(NUM_LAYERS))


def test_the_peak_holds_the_tapped_states() -> None:
    num_tokens = 1024
    plain = measure_prefill(0, num_tokens, num_tokens)["peak_bytes"]
    if plain is None:
        pytest.skip("the system does not tell a process's peak")
    tapped = measure_prefill(NUM_LAYERS, num_tokens, num_tokens)["peak_bytes"]
    states = (tapped - plain) / NUM_LAYERS / (num_tokens * HIDDEN_SIZE * 4)
    assert 0.8 < states < 2.5


def test_what_a_tap_costs_is_counted_in_states() -> None:
    assert states_per_tap(1000, 1000 + 3 * STATE_BYTES, 3) == 1.0
    assert states_per_tap(None, 5, 3) is None
    assert states_per_tap(5, 5, 0) is None
