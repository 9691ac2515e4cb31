"""SGLang's commands: nothing here can run one, so names and numbers are held to what was read."""

import pytest

from dflash_app.errors import PlanError
from dflash_app.registry.pair import Pair
from dflash_app.serving.gpus import find_gpu
from dflash_app.serving.layout import Machines
from dflash_app.serving.plan import ServePlan
from dflash_app.serving.planner import Wishes, plan_pair
from tests.serving.conftest import flags_of, values_of


def plan_sglang(pair: Pair, gpu: str, gpus: int = 1, nodes: int = 1, **wishes: object) -> ServePlan:
    machines = Machines(find_gpu(gpu), gpus, nodes)
    return plan_pair(pair, "sglang", machines, Wishes(**wishes), online=False)  # type: ignore[arg-type]


def test_it_asks_for_the_whole_block(pairs: dict[str, Pair]) -> None:
    plan = plan_sglang(pairs["qwen3-8b"], "H200-141")
    said = values_of(plan)
    drafter = pairs["qwen3-8b"].drafter
    assert drafter is not None
    assert plan.argv()[:5] == (
        "python3",
        "-m",
        "sglang.launch_server",
        "--model-path",
        "Qwen/Qwen3-8B",
    )
    assert said["--speculative-algorithm"] == "DFLASH"
    assert said["--speculative-num-draft-tokens"] == "16"
    assert said["--speculative-draft-model-path"] == drafter.repo
    assert said["--speculative-draft-model-revision"] == drafter.revision
    assert said["--attention-backend"] == "fa3"


def test_old_variables_are_left_out_and_said(pairs: dict[str, Pair]) -> None:
    plan = plan_sglang(pairs["qwen3-8b"], "H200-141")
    assert plan.variables == ()
    assert "SPEC_V2" in plan.needs.reason
    # The context of that drafter is not known: its config may tell a shorter one.
    (variable,) = plan_sglang(pairs["qwen3.5-27b"], "H200-141").variables
    assert variable.name == "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"


def test_a_window_is_given_where_all_of_the_drafter_slides(pairs: dict[str, Pair]) -> None:
    said = values_of(plan_sglang(pairs["muse-glimmer-30b-dflash2"], "H200-141"))
    assert said["--speculative-draft-window-size"] == "2048"
    assert "--speculative-draft-window-size" not in flags_of(
        plan_sglang(pairs["qwen3.6-27b"], "H200-141")
    )


def test_recurrent_targets_keep_states_to_go_back_to(pairs: dict[str, Pair]) -> None:
    said = values_of(plan_sglang(pairs["qwen3.5-27b"], "B200-180"))
    assert said["--mamba-radix-cache-strategy"] == "extra_buffer"
    assert said["--attention-backend"] == "trtllm_mha"
    assert said["--speculative-draft-attention-backend"] == "fa4"
    assert "--mamba-radix-cache-strategy" not in flags_of(
        plan_sglang(pairs["qwen3-8b"], "B200-180")
    )


def test_several_nodes_share_each_layer_and_meet_at_the_first(pairs: dict[str, Pair]) -> None:
    plan = plan_sglang(pairs["kimi-k2.5"], "H200-141", 8, 2, head="10.0.0.1")
    assert values_of(plan)["--tp-size"] == "16"
    assert plan.argv(1)[-6:] == (
        "--nnodes", "2", "--node-rank", "1", "--dist-init-addr", "10.0.0.1:20000",
    )  # fmt: skip


def test_its_twin_says_nothing_of_drafts(pairs: dict[str, Pair]) -> None:
    plan = plan_sglang(pairs["gemma-4-31b"], "B200-180", drafting=False)
    assert not [flag for flag in flags_of(plan) if "speculative" in flag]
    assert values_of(plan)["--attention-backend"] == "triton"


def test_without_a_gpu_it_is_refused(pairs: dict[str, Pair]) -> None:
    with pytest.raises(PlanError, match="CUDA and NPU devices only"):
        plan_sglang(pairs["embedded"], "cpu")
