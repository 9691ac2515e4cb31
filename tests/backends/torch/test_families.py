"""Every target family: loaded from its own checkpoint without help, and lossless.

`selftest.check` does it, as in `dflash-app doctor --families`, once for each family; what it wrote
to disk serves the tests of tapped states and drafters too.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from dflash_app.backends.torch.decode_path import fastest_drafter
from dflash_app.backends.torch.families import ROLLBACK_KINDS
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.selftest.check import (
    ALL_FAMILIES,
    PRECISIONS,
    FamilyResult,
    check_family,
)
from dflash_app.backends.torch.selftest.lossless import BLOCK_SIZE, TAPS
from dflash_app.backends.torch.selftest.tiny_families import (
    CONFIGS,
    HIDDEN_SIZE,
    UNLISTED,
    VOCAB_SIZE,
    WINDOW,
    build_model,
)
from dflash_app.backends.torch.target import TorchTarget, load_target
from dflash_app.cli.families import page
from dflash_app.errors import UnsupportedFormat
from dflash_app.registry.load import load_registry
from dflash_app.request import SamplingParams
from dflash_app.settings import find_bundled

ROOT = Path(__file__).parent.parent.parent.parent
GREEDY = SamplingParams()
CPU = torch.device("cpu")
LONG = [(7 * index * index + 3 * index) % VOCAB_SIZE for index in range(3 * WINDOW + 4)]


class Checked(NamedTuple):
    """A family, and the folder of its float32 checkpoint."""

    result: FamilyResult
    folder: Path


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checked]:
    """Checks a family the first time that it is asked for."""

    @cache
    def once(name: str) -> Checked:
        folder = tmp_path_factory.mktemp("family")
        return Checked(check_family(name, folder), folder / "float32")

    return once


@pytest.fixture(scope="module", params=list(CONFIGS))
def family(request: pytest.FixtureRequest, check: Callable[[str], Checked]) -> Checked:
    return check(request.param)


@pytest.fixture(scope="module")
def target(family: Checked) -> TorchTarget:
    return load_target(family.folder, CPU, torch.float32)


def test_the_table_and_the_tiny_models_name_the_same_families() -> None:
    assert {name.split()[0] for name in CONFIGS} == set(ROLLBACK_KINDS)


def test_a_published_checkpoint_loads_and_says_the_same(family: Checked) -> None:
    assert family.result.problems == []
    assert family.result.loaded_as is not None


def test_a_listed_family_goes_back_in_its_own_way_and_never_by_snapshots(family: Checked) -> None:
    assert family.result.rollback_kind == ROLLBACK_KINDS[family.result.model_type] != "snapshot"


def test_dense_families_have_a_static_cache_and_the_others_a_reason(family: Checked) -> None:
    special = {
        "replay": "recurrent layers",
        "slice": "mixture of experts",
    }
    path, name = family.result.path, family.result.name
    if name in ("qwen3", "llama"):
        assert path == "static cache"
    elif family.result.rollback_kind in special:
        assert path == f"dynamic cache: {special[family.result.rollback_kind]}"
    else:
        assert path in ("dynamic cache: mixture of experts", "dynamic cache: sliding window")


@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_dense_families_are_lossless_through_transformers_modules_too(
    name: str, tmp_path: Path
) -> None:
    result = check_family(name, tmp_path, fast=False)
    assert result.ok, result.all_problems()
    assert result.path == "dynamic cache"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_greedy_dflash_equals_greedy_ar_at_every_accepted_length_limit_and_stop_token(
    family: Checked, precision: str
) -> None:
    if family.result.impossible(precision):
        with pytest.raises(UnsupportedFormat, match=r"cannot run in float16.*choose bfloat16"):
            load_target(family.folder, CPU, PRECISIONS[precision])
        return
    evidence = family.result.evidence[precision]
    assert evidence.problems == []
    assert evidence.num_compared > 800
    if precision == "float32":
        assert evidence.near_ties == []


def test_only_experts_in_half_precision_are_warned_of_choosing_others() -> None:
    for name, dtype, warned in (
        ("qwen3_moe", torch.bfloat16, True),
        ("qwen3_moe", torch.float32, False),
        ("qwen3", torch.bfloat16, False),
    ):
        said = " ".join(TorchTarget(build_model(name).to(dtype)).warnings)
        assert ("choose other experts" in said) == warned


def test_a_family_that_is_not_listed_is_lossless_by_snapshots(
    check: Callable[[str], Checked],
) -> None:
    result = check(UNLISTED).result
    assert result.ok, result.all_problems()
    assert result.rollback_kind == "snapshot"


def test_a_target_tells_its_text_models_shape(target: TorchTarget) -> None:
    assert (target.hidden_size, target.vocab_size) == (HIDDEN_SIZE, VOCAB_SIZE)
    assert (target.context_length, target.dtype) == (512, torch.float32)


@pytest.mark.parametrize("name", ["qwen3_5", "gemma4"])
def test_a_wrapper_that_ties_its_embeddings_loads_without_a_head_of_its_own(
    name: str, tmp_path: Path
) -> None:
    published = build_model(name, whole=True, tie_word_embeddings=True)
    assert published.get_output_embeddings().weight is published.get_input_embeddings().weight
    published.save_pretrained(tmp_path)
    target = load_target(tmp_path, CPU, torch.float32)
    assert torch.equal(target.head.weight, target.embedding)
    assert torch.equal(target.embedding, published.get_input_embeddings().weight)


def test_only_tapped_states_are_kept_and_they_are_the_layers_outputs(target: TorchTarget) -> None:
    ids = torch.tensor(LONG)
    kept: list[Any] = []
    hook = target.model.register_forward_hook(
        lambda model, inputs, output: kept.extend(output.hidden_states)
    )
    with torch.inference_mode():
        _, tapped = target.forward(ids, None, 1, TAPS)
        hook.remove()
        every = target.model(input_ids=ids[None], output_hidden_states=True).hidden_states
    assert tapped is not None
    expected = torch.cat([every[tap + 1].flatten(2) for tap in TAPS], dim=-1)
    assert torch.allclose(tapped, expected, atol=1e-5)
    assert [index - 1 for index, state in enumerate(kept) if state is not None] == list(TAPS)


def test_a_real_drafter_on_the_tapped_states_is_lossless_on_either_path(
    target: TorchTarget, make_drafter: Callable[..., Any], run_lane: Callable[..., Any]
) -> None:
    if target.rollback_kind == "slice":
        return  # no drafter in z-lab's format reads several streams
    plain = run_lane(TorchLane(target, None, GREEDY), LONG, 16, num_draft=0).token_ids
    shape = {"block_size": BLOCK_SIZE, "mask_token_id": VOCAB_SIZE - 1, "target_layer_ids": TAPS}
    drafts = []
    for fast in (False, True):
        drafter = fastest_drafter(make_drafter(VOCAB_SIZE, dflash_config=shape), fast=fast)
        lane = TorchLane(target, drafter, GREEDY)
        decoded = run_lane(lane, LONG, 16, num_draft=BLOCK_SIZE - 1)
        assert decoded.token_ids == plain
        drafts.append([step.drafted_ids for step in decoded.steps])
    assert drafts[0] == drafts[1]


@pytest.mark.timeout(1200)  # alone, it checks every family
def test_the_page_of_the_families_is_what_the_check_finds(check: Callable[[str], Checked]) -> None:
    results = [check(name).result for name in ALL_FAMILIES]
    pairs = load_registry([find_bundled("model_registry.yaml")]).bundled
    committed = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    assert committed == page(results, pairs), (
        "run `dflash-app doctor --families --write docs/families.md` and look at the difference"
    )
