"""Every target family: loaded from its own checkpoint without help, and lossless.

A family's tiny model is written to disk as its checkpoint is published (wrappers with their towers)
and read back by `load_target`; everything below runs on what came back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.families import ROLLBACK_KINDS
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.target import TorchTarget, load_target
from dflash_app.request import SamplingParams
from tests.backends.torch.oracle import OracleLane
from tests.backends.torch.tiny_families import (
    CONFIGS,
    HIDDEN_SIZE,
    VOCAB_SIZE,
    WINDOW,
    build_model,
)

GREEDY = SamplingParams()
CPU = torch.device("cpu")
TAPS = (0, 2, 3)
BLOCK_SIZE = 8


@dataclass(frozen=True)
class Case:
    """A prompt, and how many drafts of each step shall be accepted: every number, in no order."""

    prompt: list[int]
    accepted: list[int]

    @property
    def num_tokens(self) -> int:
        """Put out by these steps, the first token included."""
        return 1 + sum(self.accepted) + len(self.accepted)


def _case(num_prompt: int, num_rounds: int) -> Case:
    random = Random(num_prompt)
    accepted = random.sample([*range(BLOCK_SIZE)] * num_rounds, k=BLOCK_SIZE * num_rounds)
    return Case(random.choices(range(VOCAB_SIZE), k=num_prompt), accepted)


CASES = {"shorter": _case(WINDOW - 7, 1), "longer": _case(3 * WINDOW + 4, 3)}
"""By the prompt's length against the sliding window."""
LONG = CASES["longer"].prompt


@dataclass
class Family:
    """One family on its way back from disk.

    Attributes:
        published: what was written.
        target: what was read.
        truths: by case, greedy plain decoding.
    """

    name: str
    published: Any
    target: TorchTarget
    truths: dict[str, list[int]]


@pytest.fixture(scope="module", params=list(CONFIGS))
def family(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    run_lane: Callable[..., Any],
) -> Family:
    folder = tmp_path_factory.mktemp("target")
    published = build_model(request.param, whole=True)
    published.save_pretrained(folder)
    target = load_target(folder, CPU, torch.float32)
    truths = {
        name: run_lane(
            TorchLane(target, None, GREEDY), case.prompt, case.num_tokens + BLOCK_SIZE, num_draft=0
        ).token_ids
        for name, case in CASES.items()
    }
    return Family(request.param, published, target, truths)


def test_the_table_and_the_tiny_models_name_the_same_families() -> None:
    assert {name.split()[0] for name in CONFIGS} == set(ROLLBACK_KINDS)


def test_a_published_checkpoint_loads_and_says_the_same(family: Family) -> None:
    target, ids = family.target, torch.tensor(LONG)
    with torch.inference_mode():
        expected = family.published(input_ids=ids[None]).logits[0]
        logits, _ = target.forward(ids, None, len(ids))
    assert torch.allclose(logits, expected, atol=1e-5)
    assert (target.hidden_size, target.vocab_size) == (HIDDEN_SIZE, VOCAB_SIZE)
    assert (target.context_length, target.dtype) == (512, torch.float32)
    assert target.rollback_kind == ROLLBACK_KINDS[family.name.split()[0]]


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


def test_only_tapped_states_are_kept_and_they_are_the_layers_outputs(family: Family) -> None:
    target, ids = family.target, torch.tensor(LONG)
    kept: list[Any] = []
    hook = target.model.register_forward_hook(
        lambda model, inputs, output: kept.extend(output.hidden_states)
    )
    with torch.inference_mode():
        _, tapped = target.forward(ids, None, 1, TAPS)
        hook.remove()
        every = family.published(input_ids=ids[None], output_hidden_states=True).hidden_states
    assert tapped is not None
    expected = torch.cat([every[tap + 1].flatten(2) for tap in TAPS], dim=-1)
    assert torch.allclose(tapped, expected, atol=1e-5)
    assert [index - 1 for index, state in enumerate(kept) if state is not None] == list(TAPS)


@pytest.mark.parametrize("name", CASES)
def test_greedy_dflash_equals_greedy_ar_for_every_accepted_length(
    family: Family, name: str, run_lane: Callable[..., Any]
) -> None:
    case, truth = CASES[name], family.truths[name]
    lane = OracleLane(family.target, case.prompt, truth, case.accepted)
    decoded = run_lane(lane, case.prompt, case.num_tokens, num_draft=BLOCK_SIZE - 1)
    assert decoded.token_ids == truth[: case.num_tokens]
    # The length limit cuts the last blocks: what they accept is cut with them.
    whole = [step.num_accepted for step in decoded.steps if len(step.drafted_ids) == BLOCK_SIZE - 1]
    assert whole == case.accepted[: len(whole)]
    assert len(whole) >= len(case.accepted) - 2
    # One token over and over would hide a cache that forgot.
    assert len(set(truth)) > 12


def test_prefill_in_chunks_equals_prefill_at_once(
    family: Family, run_lane: Callable[..., Any]
) -> None:
    truth = family.truths["longer"]
    lane = OracleLane(family.target, LONG, truth, [3, 0, 5])
    decoded = run_lane(lane, LONG, 12, num_draft=BLOCK_SIZE - 1, prefill_chunk=7)
    assert decoded.token_ids == truth[:12]


def test_a_real_drafter_on_the_tapped_states_is_lossless(
    family: Family, make_drafter: Callable[..., Any], run_lane: Callable[..., Any]
) -> None:
    if family.target.rollback_kind == "slice":
        return  # no drafter in z-lab's format reads several streams
    shape = {"block_size": BLOCK_SIZE, "mask_token_id": VOCAB_SIZE - 1, "target_layer_ids": TAPS}
    drafter = make_drafter(VOCAB_SIZE, dflash_config=shape)
    lane = TorchLane(family.target, drafter, GREEDY)
    decoded = run_lane(lane, LONG, 16, num_draft=BLOCK_SIZE - 1)
    assert decoded.token_ids == family.truths["longer"][:16]
