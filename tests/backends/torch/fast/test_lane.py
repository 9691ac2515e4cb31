"""Lanes on the fast path put out what lanes through transformers put out, token by token."""

from collections.abc import Callable
from typing import Any

import pytest

from dflash_app.backends.torch.checkpoint import load_drafter
from dflash_app.backends.torch.fast import FastDrafter, FastTarget
from dflash_app.backends.torch.loading import choose_device, load_models
from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.selftest.oracle import OracleLane
from dflash_app.backends.torch.target import load_target
from dflash_app.request import SamplingParams
from dflash_app.settings import EMBEDDED_DIR

PROMPT = [5, 17, 3, 42, 8, 11, 29]
SAMPLINGS = {
    "greedy": SamplingParams(),
    "sampled": SamplingParams(temperature=0.9, top_p=0.95, top_k=30, seed=4),
    "penalised": SamplingParams(repetition_penalty=1.3),
}


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def pairs(
    request: pytest.FixtureRequest,
    both_targets: Callable[..., Any],
    both_drafters: Callable[..., Any],
) -> tuple[TorchModels, FastTarget, FastDrafter]:
    slow, fast = both_targets(request.param)
    drafter, fast_drafter = both_drafters()
    return TorchModels(slow, drafter), fast, fast_drafter


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("block_size", [None, 6])
def test_both_modes_agree_with_the_modules_under_every_sampling(
    pairs: Any, open_fast_lane: Any, run_lane: Any, sampling: str, block_size: int | None
) -> None:
    models, target, drafter = pairs
    params = SAMPLINGS[sampling]
    num_draft = (block_size or 16) - 1
    expected = run_lane(models.open_lane(params, "ar"), PROMPT, 60, num_draft=0)
    plain = run_lane(open_fast_lane(target, None, params), PROMPT, 60, num_draft=0)
    assert plain.token_ids == expected.token_ids
    expected = run_lane(
        models.open_lane(params, "dflash", block_size), PROMPT, 60, num_draft=num_draft
    )
    lane = open_fast_lane(target, drafter, params, block_size)
    mine = run_lane(lane, PROMPT, 60, num_draft=num_draft)
    assert mine.token_ids == expected.token_ids
    assert [step.drafted_ids for step in mine.steps] == [s.drafted_ids for s in expected.steps]


def test_every_forced_accepted_length_is_lossless(
    pairs: Any, open_fast_lane: Any, run_lane: Any
) -> None:
    _, target, _ = pairs
    truth = run_lane(open_fast_lane(target, None), PROMPT, 420, num_draft=0).token_ids
    lane = OracleLane(target, PROMPT, truth, [*range(16), *range(15, -1, -1)] * 4)
    assert run_lane(lane, PROMPT, 400).token_ids == truth[:400]


def test_the_drafters_context_is_what_a_fresh_lane_builds(
    pairs: Any, open_fast_lane: Any, run_lane: Any
) -> None:
    models, target, drafter = pairs
    prompt = PROMPT * 3
    lane = open_fast_lane(target, drafter)
    lane.extend([*prompt[:12], 90, 91, 92, 93])
    lane.first_token()
    lane.verify(lane.propose(15))
    lane.rewind(12)
    reused = run_lane(lane, prompt, 40)
    fresh = run_lane(models.open_lane(SamplingParams(), "dflash"), prompt, 40)
    assert reused.token_ids == fresh.token_ids
    assert [step.drafted_ids for step in reused.steps] == [s.drafted_ids for s in fresh.steps]


def test_steps_without_drafts_keep_the_drafters_context_whole(
    pairs: Any, open_fast_lane: Any, run_lane: Any
) -> None:
    models, target, drafter = pairs
    lane = open_fast_lane(target, drafter)
    expected = run_lane(models.open_lane(SamplingParams(), "ar"), PROMPT, 12, num_draft=0)
    assert run_lane(lane, PROMPT, 12, num_draft=0).token_ids == expected.token_ids
    assert lane._prefix.context.length == lane.length == len(PROMPT) + 11


def test_the_embedded_pair_puts_out_the_same_tokens_from_the_same_drafts(
    open_fast_lane: Any, run_lane: Any
) -> None:
    target_dir, drafter_dir = EMBEDDED_DIR / "target", EMBEDDED_DIR / "drafter"
    models = load_models(target_dir, drafter_dir)
    cpu, dtype = choose_device("cpu"), models.target.dtype
    target = FastTarget(load_target(target_dir, cpu, dtype).model)
    drafter = FastDrafter(load_drafter(drafter_dir, cpu, dtype))
    for prompt in ([7 + 13 * i % 1500 for i in range(96)], [1, 800, 23, 24, 900, 5]):
        truth = run_lane(models.open_lane(SamplingParams(), "dflash"), prompt, 120)
        plain = run_lane(open_fast_lane(target, None), prompt, 120, num_draft=0)
        mine = run_lane(open_fast_lane(target, drafter), prompt, 120)
        assert mine.token_ids == plain.token_ids == truth.token_ids
        assert [step.drafted_ids for step in mine.steps] == [s.drafted_ids for s in truth.steps]
