"""The MLX peers benchmark: every loop that is installed says what ours says, and bars can miss."""

from benchmarks.mlx_loops import DFLASH_MLX, MLX_LM, ZLAB
from benchmarks.peers_mlx import OUR_AR, OUR_DFLASH, judge, measure
from benchmarks.prompts import Prompt

PROMPTS = [Prompt("units", "How many centimetres are 3 metres?")]


def test_the_loops_that_are_installed_say_what_ours_say():
    results = measure(PROMPTS, rounds=1, max_new_tokens=16, dtype="float32")
    loops = results["loops"]
    assert {OUR_DFLASH, OUR_AR, MLX_LM, ZLAB} <= set(loops)
    assert set(loops) | set(results["missing"]) == {OUR_DFLASH, OUR_AR, MLX_LM, ZLAB, DFLASH_MLX}
    assert all(row["num_different_outputs"] == 0 for row in loops.values())
    assert all(row["median_tok_s"] > 0 for row in loops.values())


def test_a_slower_loop_a_missing_one_and_another_reply_miss_the_bars():
    def row(ratio: float, different: int = 0) -> dict[str, float]:
        over = {f"{OUR_DFLASH} over it": ratio, f"{OUR_AR} over it": ratio}
        return {**over, "num_different_outputs": different}

    loops = {OUR_DFLASH: row(1.0), OUR_AR: row(1.0), MLX_LM: row(1.1), ZLAB: row(0.9)}
    verdicts = [check.met for check in judge({"dtype": "float32", "loops": loops})]
    assert verdicts == [False, False, True, True]
    loops |= {ZLAB: row(1.2), DFLASH_MLX: row(1.3), OUR_AR: row(1.0, different=1)}
    verdicts = [check.met for check in judge({"dtype": "float32", "loops": loops})]
    assert verdicts == [True, True, True, False]
    assert all(check.met for check in judge({"dtype": "bfloat16", "loops": loops}))
