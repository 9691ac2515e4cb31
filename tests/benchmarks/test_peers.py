"""Other people's loops on a tiny pair say what ours says; the benchmark counts and judges right."""

import pytest
import torch

from benchmarks.native_dflash import as_assistant, why_not_native
from benchmarks.peer_loops import NATIVE_DFLASH, ZLAB_AR, ZLAB_DFLASH, peer_loops
from benchmarks.peers import BARS, OUR_AR, OUR_DFLASH, judge, measure, print_results
from benchmarks.prompts import Prompt
from benchmarks.shapes import build_pair
from tests.e2e.tiny_pair import write_tiny_pair

CPU = torch.device("cpu")
PROMPTS = [Prompt("a", "word word"), Prompt("b", "strong word")]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("peers")
    write_tiny_pair(folder / "pair", folder / "model_registry.yaml")
    return measure(
        folder / "pair" / "target",
        folder / "pair" / "drafter",
        prompts=PROMPTS,
        rounds=2,
        max_new_tokens=24,
        threads=torch.get_num_threads(),
    )


def test_every_loop_is_run_on_every_prompt_and_all_say_the_same(results):
    assert results["num_different_outputs"] == 0
    assert results["missing"] == {}
    assert len(results["loops"]) == 8
    assert results["num_runs_each"] == 4
    assert results["loops"][OUR_AR]["ours, AR over it"] == 1.0
    assert set(results["kinds"]) == {"a", "b", "all"}


def test_each_bar_is_judged_by_its_own_pair_of_loops(results, capsys):
    print_results(results, judge(results))
    assert "our DFlash over it" in capsys.readouterr().out
    loops = {theirs: {} for _, theirs, _ in BARS}
    for ours, theirs, least in BARS:
        loops[theirs][f"{ours} over it"] = least
    good = {"loops": loops, "num_different_outputs": 0}
    assert all(check.met for check in judge(good))
    loops[ZLAB_DFLASH][f"{OUR_DFLASH} over it"] -= 0.01
    assert [check.met for check in judge(good)].count(False) == 1
    loops.pop(NATIVE_DFLASH)
    assert [check.met for check in judge(good)].count(False) == 2
    assert not judge(good | {"num_different_outputs": 1})[-1].met


def test_transformers_own_dflash_drafts_what_ours_drafts():
    pair = build_pair("tiny", CPU, torch.float32)
    assert why_not_native(pair.model, pair.drafter) is None
    shape, num_tokens = pair.drafter.config, 20
    torch.manual_seed(3)
    block = torch.randn(1, shape.block_size, shape.hidden_size)
    tapped = torch.randn(1, num_tokens, len(shape.target_layer_ids) * shape.hidden_size)
    positions = torch.arange(num_tokens + shape.block_size)
    with torch.inference_mode():
        ours = pair.drafter(block, tapped, positions[:num_tokens], positions[num_tokens:])
        theirs = as_assistant(pair.drafter)(
            noise_embeds=block, context_hidden_states=tapped, position_ids=positions[None]
        )
    assert torch.allclose(ours, theirs.last_hidden_state, atol=1e-5)


def test_what_transformers_cannot_assist_is_named_and_left_out():
    pair = build_pair("tiny-hybrid", CPU, torch.float32)
    loops, missing = peer_loops(pair.model, pair.drafter, ())
    assert "recurrent" in missing[NATIVE_DFLASH]
    assert ZLAB_AR in loops and NATIVE_DFLASH not in loops
