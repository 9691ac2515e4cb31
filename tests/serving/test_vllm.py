"""vLLM's commands, each given to the parser of the vLLM that is installed."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from dflash_app.registry.pair import Pair
from dflash_app.serving.gpus import find_gpu
from dflash_app.serving.layout import Machines
from dflash_app.serving.plan import ServePlan
from dflash_app.serving.planner import Wishes, plan_pair, twin_of
from tests.serving.conftest import flags_of, values_of

SCRIPT = Path(__file__).with_name("parse_with_vllm.py")


def vllm_python() -> Path:
    """Python of vLLM's own venv, where the Makefile puts it."""
    usual = Path.home() / ".cache" / "dflash-studio" / "vllm-0.32.0"
    return Path(os.environ.get("VLLM_VENV") or usual) / "bin" / "python"


def plan_vllm(pair: Pair, gpu: str, gpus: int = 1, nodes: int = 1, **wishes: object) -> ServePlan:
    machines = Machines(find_gpu(gpu), gpus, nodes)
    return plan_pair(pair, "vllm", machines, Wishes(**wishes), online=False)  # type: ignore[arg-type]


def test_it_asks_for_a_block_less_its_anchor_at_the_pinned_commits(pairs: dict[str, Pair]) -> None:
    plan = plan_vllm(pairs["qwen3-8b"], "H100-80")
    said = values_of(plan)
    assert plan.argv()[:3] == ("vllm", "serve", "Qwen/Qwen3-8B")
    assert said["--revision"] == pairs["qwen3-8b"].target.revision
    drafter = pairs["qwen3-8b"].drafter
    assert drafter is not None
    assert json.loads(said["--speculative-config"] or "") == {
        "method": "dflash",
        "model": "z-lab/Qwen3-8B-DFlash-b16",
        "revision": drafter.revision,
        "num_speculative_tokens": 15,
    }
    assert said["--per-request-spec-decode-metrics"] == "detailed"
    assert said["--attention-backend"] == "flash_attn"


def test_its_twin_is_spread_alike_and_asks_for_no_drafts(pairs: dict[str, Pair]) -> None:
    # Where nothing drafts, 0.32 refuses to count drafts per request.
    wishes = twin_of(Wishes())
    machines = Machines(find_gpu("H100-80"), 4)
    twin = plan_pair(pairs["qwen3.5-27b"], "vllm", machines, wishes, online=False)
    plan = plan_vllm(pairs["qwen3.5-27b"], "H100-80", 4)
    gone = set(flags_of(plan)) - set(flags_of(twin))
    assert gone == {"--speculative-config", "--per-request-spec-decode-metrics"}
    assert (twin.layout, twin.port) == (plan.layout, plan.port + 1)
    assert not twin.drafting


def test_gemma_gets_a_backend_for_the_target_and_one_for_its_drafter(
    pairs: dict[str, Pair],
) -> None:
    said = values_of(plan_vllm(pairs["gemma-4-31b"], "H200-141"))
    assert said["--attention-backend"] == "triton_attn"
    assert json.loads(said["--speculative-config"] or "")["attention_backend"] == "flash_attn"


def test_several_nodes_meet_at_the_first_and_it_alone_answers(pairs: dict[str, Pair]) -> None:
    plan = plan_vllm(pairs["llama-3.1-8b"], "H100-80", 8, 2, head="10.0.0.1")
    first, second = plan.argv(0), plan.argv(1)
    assert first[-6:] == ("--nnodes", "2", "--node-rank", "0", "--master-addr", "10.0.0.1")
    assert second[-5:] == ("--node-rank", "1", "--master-addr", "10.0.0.1", "--headless")
    assert (plan.layout.tensor, plan.layout.pipeline) == (8, 2)


def test_a_family_whose_taps_vllm_does_not_relay_has_its_layers_in_one_group(
    pairs: dict[str, Pair],
) -> None:
    plan = plan_vllm(pairs["kimi-k2.5"], "H100-80", 8, 2)
    assert (plan.layout.tensor, plan.layout.pipeline) == (16, 1)


def test_remote_code_is_never_trusted_and_said_where_the_model_asks_for_it(
    pairs: dict[str, Pair],
) -> None:
    plan = plan_vllm(pairs["kimi-k2.5"], "H200-141", 8)
    assert "--trust-remote-code" not in plan.argv()
    assert any("--trust-remote-code" in note for note in plan.notes)


def test_on_a_processor_it_runs_the_module_in_float32_with_little_memory(
    pairs: dict[str, Pair],
) -> None:
    plan = plan_vllm(pairs["embedded"], "cpu")
    assert plan.argv()[:2] == ("python", "-m")
    assert {each.name: each.value for each in plan.variables} == {"VLLM_CPU_KVCACHE_SPACE": "1"}
    said = values_of(plan)
    assert said["--dtype"] == "float32"
    assert said["--max-model-len"] == "2048"
    assert "--attention-backend" not in said
    assert any("55005" in note for note in plan.notes)


def test_the_installed_vllm_understands_every_argument(pairs: dict[str, Pair]) -> None:
    python = vllm_python()
    if not python.exists():
        assert not os.environ.get("CI"), "vLLM is not installed: run `make vllm`."
        pytest.skip("vLLM is not installed: `make vllm` does so on Linux x86_64.")
    plans = [
        plan_vllm(pairs["qwen3-8b"], "H100-80"),
        plan_vllm(pairs["qwen3-8b"], "4090-24", 2, drafting=False),
        plan_vllm(pairs["gemma-4-31b"], "B200-180"),
        plan_vllm(pairs["llama-3.1-8b"], "A100-80", 8, 2, host="0.0.0.0"),
        plan_vllm(pairs["kimi-k2.5"], "H200-141", 8),
        plan_vllm(pairs["embedded"], "cpu"),
    ]
    commands = [plan.argv(node) for plan in plans for node in range(len(plan.node_arguments))]
    asked = subprocess.run(
        [python, "-P", SCRIPT],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
    )
    assert asked.returncode == 0, asked.stderr[-2000:]
    understood = json.loads(asked.stdout.splitlines()[-1])
    assert [each["model"] for each in understood] == [
        "Qwen/Qwen3-8B",
        "Qwen/Qwen3-8B",
        "google/gemma-4-31B-it",
        *["meta-llama/Llama-3.1-8B-Instruct"] * 2,
        "moonshotai/Kimi-K2.5",
        plans[-1].folders[0],
    ]
    assert [each["tensor"] for each in understood] == [1, 2, 1, 8, 8, 8, 1]
    assert [each["pipeline"] for each in understood] == [1, 1, 1, 2, 2, 1, 1]
    assert [(each["nodes"], each["rank"], each["headless"]) for each in understood[3:5]] == [
        (2, 0, False),
        (2, 1, True),
    ]
    drafts = [each["drafting"].get("num_speculative_tokens") for each in understood]
    assert drafts == [15, None, 15, 9, 9, 7, 15]
