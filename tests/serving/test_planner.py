"""Plans as a whole: what is refused, and what the user is told."""

import pytest

from dflash_app.errors import PlanError
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.serving.gpus import find_gpu
from dflash_app.serving.layout import Machines
from dflash_app.serving.plan import Engine, ServePlan
from dflash_app.serving.planner import Wishes, plan_pair, twin_of
from dflash_app.serving.render import reasons_of


def make(
    pair: Pair,
    engine: Engine = "vllm",
    gpus: int = 1,
    nodes: int = 1,
    *,
    gpu: str = "H100-80",
    **wishes: object,
) -> ServePlan:
    machines = Machines(find_gpu(gpu), gpus, nodes)
    return plan_pair(pair, engine, machines, Wishes(**wishes), online=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_pair_of_the_registry_is_planned_or_refused_in_one_sentence(
    pairs: dict[str, Pair], engine: Engine
) -> None:
    planned = []
    for pair in pairs.values():
        try:
            plan = make(pair, engine, 8, gpu="B200-180")
        except PlanError as refusal:
            assert str(refusal).endswith(".")
            assert "\n" not in str(refusal)
            continue
        planned.append(pair.name)
        assert all(reason.endswith(".") for _, reason in reasons_of(plan))
        assert len(plan.argv()) > 8
    assert {"qwen3-8b", "kimi-k2.5", "gpt-oss-120b", "muse-glimmer-30b-dflash2"} <= set(planned)
    assert not {"deepseek-v4-pro", "glm-5.1", "minimax-m2.7"} & set(planned)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("deepseek-v4-pro", "is planned, its drafter is not published"),
        ("glm-5.1", "No source tells the block size of 'glm-5.1': .* --block-size"),
    ],
)
def test_what_cannot_be_served_says_why(pairs: dict[str, Pair], name: str, sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        make(pairs[name])


def test_a_pair_without_a_drafter_or_on_a_server_has_nothing_to_plan(
    pairs: dict[str, Pair],
) -> None:
    alone = pairs["qwen3-8b"].model_copy(update={"drafter": None})
    with pytest.raises(PlanError, match="has no drafter"):
        make(alone)
    assert not make(alone, drafting=False).drafting
    ref = ModelRef(server="http://127.0.0.1:1/v1", model="m")
    served = Pair(
        name="s", title="S", family="f", target=ref, drafter=ref, backends=("remote",)
    )  # fmt: skip
    with pytest.raises(PlanError, match=r"served already, at http://127\.0\.0\.1:1/v1"):
        make(served)


def test_too_few_gpus_are_refused_with_the_number_it_takes(pairs: dict[str, Pair]) -> None:
    with pytest.raises(PlanError, match=r"do not fit on 8 x H100-80: it takes 16 such GPUs"):
        make(pairs["kimi-k2.5"], gpus=8)
    assert make(pairs["kimi-k2.5"], gpus=8, gpu="H200-141").layout.tensor == 8


@pytest.mark.parametrize(
    ("gpus", "nodes", "wishes"),
    [
        (0, 1, {}),
        (17, 1, {}),
        (1, 0, {}),
        (1, 65, {}),
        (1, 1, {"port": 0}),
        (1, 1, {"port": 65_536}),
        (1, 1, {"context_length": 0}),
        (1, 1, {"block_size": 1}),
        (1, 1, {"block_size": 65}),
        (1, 1, {"host": "a b"}),
        (1, 1, {"head": "$(reboot)"}),
        (1, 1, {"host": "x\ny"}),
    ],
)
def test_impossible_wishes_are_refused(
    pairs: dict[str, Pair], gpus: int, nodes: int, wishes: dict[str, object]
) -> None:
    with pytest.raises(PlanError, match="Give"):
        make(pairs["qwen3-8b"], "vllm", gpus, nodes, **wishes)


def test_a_block_size_that_the_user_tells_counts(pairs: dict[str, Pair]) -> None:
    plan = make(pairs["qwen3-8b"], "sglang", block_size=8)
    said = {each.flag: each.value for each in plan.arguments}
    assert said["--speculative-num-draft-tokens"] == "8"


def test_an_engine_that_no_source_shows_is_warned_of_with_the_sources(
    pairs: dict[str, Pair],
) -> None:
    assert not any("No source" in note for note in make(pairs["qwen3-8b"]).notes)
    pair = pairs["qwen3-8b"].model_copy(update={"backends": ("mlx",)})
    (warning,) = [note for note in make(pair).notes if "No source" in note]
    assert "No source shows vLLM running this pair; the registry: mlx (config-table-" in warning
    assert not any("No source" in note for note in make(pairs["embedded"], gpu="cpu").notes)


def test_what_is_not_pinned_or_not_read_from_files_is_said(pairs: dict[str, Pair]) -> None:
    notes = " ".join(make(pairs["qwen3.5-27b"]).notes)
    assert "Qwen/Qwen3.5-27B (by its name)" in notes
    assert "No commit is pinned for Qwen/Qwen3.5-27B and z-lab/Qwen3.5-27B-DFlash" in notes
    assert "pinned" not in " ".join(make(pairs["qwen3-8b"]).notes)


def test_gpus_without_a_link_and_gpus_that_are_too_many_are_said(pairs: dict[str, Pair]) -> None:
    assert any("no NVLink" in note for note in make(pairs["qwen3-8b"], gpus=2, gpu="4090").notes)
    notes = make(pairs["qwen3-8b"], gpus=8).notes
    assert any("fits on 1 of them" in note for note in notes)
    notes = make(pairs["qwen3.5-27b"], gpus=6).notes
    assert any(note.startswith("4 of 6 GPUs are used") for note in notes)


def test_gated_models_are_named(pairs: dict[str, Pair]) -> None:
    assert make(pairs["llama-3.1-8b"]).gated == ("meta-llama/Llama-3.1-8B-Instruct",)


def test_the_twin_listens_on_the_next_port(pairs: dict[str, Pair]) -> None:
    assert twin_of(Wishes(port=9000)).port == 9001
    twin = plan_pair(
        pairs["qwen3-8b"], "sglang", Machines(find_gpu("h100")), twin_of(Wishes()), online=False
    )
    assert (twin.port, twin.base_url) == (30001, "http://127.0.0.1:30001/v1")


def test_a_folder_is_served_by_the_pairs_name(pairs: dict[str, Pair]) -> None:
    plan = make(pairs["embedded"], gpu="cpu")
    assert plan.model_name == "embedded"
    assert [folder.rpartition("/")[2] for folder in plan.folders] == ["target", "drafter"]
