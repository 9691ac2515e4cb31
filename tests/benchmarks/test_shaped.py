"""Random weights in published shapes: forced acceptance is forced, floors count what is read."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks import gpu, lane_times, shaped, shaped_cycle, shaped_peers
from benchmarks.forced import forced_acceptance, forced_logits
from benchmarks.lane_times import prefill
from benchmarks.peer_loops import ZLAB_DFLASH, peer_loops
from benchmarks.shape_options import add_shape_options
from benchmarks.shapes import (
    FILE,
    another,
    build_pair,
    draft_bytes,
    draft_kv_bytes,
    kv_bytes,
    our_models,
    random_ids,
    target_bytes,
)
from dflash_app.backends.torch.dflash2 import new_drafter
from dflash_app.drafters.config import DFlashConfig
from dflash_app.errors import RequestError
from dflash_app.request import SamplingParams

CPU = torch.device("cpu")
ROOT = Path(__file__).parent.parent.parent
PUBLISHED = {
    "qwen3-4b": (4_022_468_096, 537_427_200),
    "qwen3-8b": (8_190_735_360, 1_048_626_432),
    "qwen3.5-4b": (4_205_751_296, 634_425_856),
    "qwen3-coder-30b-a3b": (30_532_122_624, 473_995_264),
}
BARE = [
    "gradio",
    "plotly",
    "sqlite_utils",
    "pluggy",
    "typer",
    "pydantic",
    "platformdirs",
    "playwright",
    "psutil",
    "dflash",
]


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_times, "NUM_WARM_UP", 1)
    monkeypatch.setattr(lane_times, "NUM_PROFILED", 1)


def _options(shape: str, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_shape_options(parser)
    small = ["--device", "cpu", "--dtype", "float32", "--context", "20", "40", "--steps", "2"]
    return parser.parse_args(
        ["--shape", shape, *small, "--tokens", "20", "--loop-rounds", "1", *more]
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_have_the_published_numbers_of_parameters(name):
    shape = json.loads(FILE.read_text())[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape["target"]))
        drafter = new_drafter(DFlashConfig.from_dict(shape["drafter"]), "sdpa")
    sizes = [sum(weight.numel() for weight in each.parameters()) for each in (model, drafter)]
    assert tuple(sizes) == PUBLISHED[name]


def test_a_floor_counts_what_a_forward_reads():
    pair = build_pair("tiny-experts", CPU, torch.float32)
    held = sum(weight.nbytes for weight in pair.model.parameters())
    experts = 4 * 4 * 8 * 3 * 32 * 64  # float32, layers, experts, gate and up and down
    one_row_a_token = 4 * 512 * 64
    # Two of eight experts a token; every token more reaches some of the rest.
    assert target_bytes(pair.model, 1) == held - one_row_a_token - 0.75 * experts
    assert target_bytes(pair.model, 1) < target_bytes(pair.model, 16) < held
    assert draft_bytes(pair) == sum(w.nbytes for w in pair.drafter.parameters()) + 4 * 512 * 64
    hybrid = build_pair("tiny-hybrid", CPU, torch.float32)
    assert kv_bytes(hybrid.model) == 2 * 2 * 16 * 4  # one layer in four attends
    read = draft_kv_bytes(hybrid.drafter.config, torch.float32)
    assert read(100) == (32 + 100) * 2 * 2 * 16 * 4  # one layer sees a window of 32


@pytest.mark.parametrize("accepted", [0, 6, 15])
@pytest.mark.parametrize("shape", ["tiny", "tiny-hybrid"])
def test_forced_acceptance_is_what_every_loop_accepts(shape, accepted):
    pair = build_pair(shape, CPU, torch.float32)
    theirs = another(pair)
    loops, _ = peer_loops(theirs.model, theirs.drafter, ())
    prompt_ids = random_ids(512, 20)
    forwards: list[int] = []
    theirs.model.register_forward_hook(lambda *_: forwards.append(1))
    with forced_acceptance(accepted), forced_logits(theirs.model, accepted):
        lane = our_models(pair).open_lane(SamplingParams(), "dflash")
        prefill(lane, prompt_ids)
        assert lane.verify(lane.propose(15)).num_accepted == accepted
        num_tokens = 2 + 3 * (1 + accepted)  # the prefill's, three blocks, one more token
        for loop in (loop for name, loop in loops.items() if "DFlash" in name):
            forwards.clear()
            assert len(loop(prompt_ids, num_tokens)) == num_tokens
            assert len(forwards) == 5
    lane = our_models(build_pair(shape, CPU, torch.float32)).open_lane(SamplingParams(), "dflash")
    prefill(lane, prompt_ids)
    assert lane.verify(lane.propose(15)).num_accepted < 6  # no longer forced


@pytest.mark.parametrize("shape", ["tiny", "tiny-hybrid", "tiny-experts"])
def test_a_cycle_is_measured_at_every_context(shape, capsys):
    results = shaped_cycle.measure(_options(shape))
    assert list(results["contexts"]) == ["20", "40"]
    for figures in results["contexts"].values():
        assert figures["cycle / floor"] == pytest.approx(
            figures["cycle"] / figures["floor of a cycle"]
        )
        assert figures["floor of a cycle"] > figures["floor of an AR step"] > 0
    assert "cycle time, not quality" in results["label"]
    assert shaped_cycle.judge(results) == []  # the bars are Qwen3-8B's
    shaped_cycle.print_results(results, [])
    assert "6 accepted drafts a block" in capsys.readouterr().out


def test_every_loop_says_the_same_in_float32_when_nothing_is_forced(capsys):
    results = shaped_peers.measure(_options("tiny", "--free"))
    assert len(results["differences"]) == len(results["loops"]) == 7
    assert set(results["differences"].values()) == {None}
    checks = shaped_peers.judge(results)
    assert [check.met for check in checks] == [True]
    shaped_peers.print_results(results, checks)
    assert ZLAB_DFLASH in capsys.readouterr().out


def test_texts_that_part_are_judged_by_the_margin():
    parted = {"position": 3, "margin": 0.2}
    results = {"dtype": "bfloat16", "shape": "tiny", "accept": None, "loops": {}}
    for name, met in (("ours, AR", False), (ZLAB_DFLASH, True)):
        checks = shaped_peers.judge(results | {"differences": {name: parted}})
        assert [check.met for check in checks] == [met]


def test_an_h200s_bars_are_held_against_qwen3_8b_in_bfloat16():
    figures = dict.fromkeys(shaped_cycle.BARS, 1.2)
    results = {"shape": "qwen3-8b", "dtype": "bfloat16", "contexts": {"1024": figures}}
    results |= {"growth": {"AR step": 1.05}, "first_prompts_and_steps_s": [3.0, 0.1]}
    assert all(check.met for check in shaped_cycle.judge(results))
    figures["AR step / floor"] = 1.26
    assert [check.met for check in shaped_cycle.judge(results)].count(False) == 1


def test_an_unknown_shape_is_one_sentence_that_names_the_others():
    with pytest.raises(RequestError, match="use qwen3-4b, qwen3-8b"):
        build_pair("qwen9", CPU, torch.float32)


def test_the_gpus_command_runs_with_torch_and_transformers_alone(tmp_path):
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({BARE!r})); from benchmarks import gpu; "
        "from benchmarks.shaped import main; "
        f"sys.exit(main(['cycle', '--shape', 'tiny', '--device', 'cpu', '--dtype', 'float32', "
        f"'--context', '20', '--steps', '1', '--out', {str(tmp_path / 'cycle.json')!r}]))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    written = json.loads((tmp_path / "cycle.json").read_text())
    assert written["hardware"]["cores"] >= 1
    assert written["checks"] == []


def test_a_job_that_breaks_or_has_no_time_says_so_and_the_file_is_written(tmp_path, monkeypatch):
    jobs = ((gpu.PEERS, "--shape qwen9"), (gpu.CYCLE, "--shape tiny"))
    monkeypatch.setattr(gpu, "JOBS", jobs)
    limits = iter([60.0, 0.0])
    run_job = gpu.run_job
    monkeypatch.setattr(gpu, "run_job", lambda name, words, _: run_job(name, words, next(limits)))
    assert gpu.main(["--out", str(tmp_path), "--device", "cpu"]) == 1
    broken, late = json.loads((tmp_path / "gpu.json").read_text())["measurements"]
    assert "There is no shape 'qwen9'" in broken["problem"]
    assert late["problem"] == "unmeasured: the time was up"


def test_the_command_needs_a_shape(capsys):
    with pytest.raises(SystemExit):
        shaped.main(["cycle"])
    assert "give --shape" in capsys.readouterr().err
