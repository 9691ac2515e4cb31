"""Greedy DFlash equals greedy AR equals transformers' generate, token by token."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.selftest.oracle import OracleLane
from dflash_app.errors import RequestError
from dflash_app.request import SamplingParams
from tests.backends.torch.turns import assert_same_context

GREEDY = SamplingParams()
PROMPT = [5, 17, 3, 42, 8, 11, 29]


def _generate(reference: Any, prompt: list[int], max_new_tokens: int, **options: Any) -> list[int]:
    output = reference.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        **options,
    )
    return output[0, len(prompt) :].tolist()


def _oracle(
    models: TorchModels,
    truth: list[int],
    accepted: list[int],
    sampling: SamplingParams = GREEDY,
) -> OracleLane:
    return OracleLane(
        models.target, PROMPT, truth, accepted, drafter=models.drafter, sampling=sampling
    )


@pytest.mark.parametrize("max_new_tokens", [1, 2, 16, 61])
def test_dflash_ar_and_generate_agree_token_by_token(
    models: TorchModels, reference: Any, run_lane: Callable[..., Any], max_new_tokens: int
) -> None:
    expected = _generate(reference, PROMPT, max_new_tokens)
    ar = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, max_new_tokens, num_draft=0)
    dflash = run_lane(models.open_lane(GREEDY, "dflash"), PROMPT, max_new_tokens)
    assert ar.token_ids == expected
    assert dflash.token_ids == expected
    assert all(len(step.drafted_ids) == 0 for step in ar.steps)


@pytest.mark.parametrize("accepted", range(16))
def test_every_forced_accepted_length_is_lossless_and_counted(
    models: TorchModels, run_lane: Callable[..., Any], accepted: int
) -> None:
    truth = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 80, num_draft=0).token_ids
    lane = _oracle(models, truth, [accepted] * 80)
    decoded = run_lane(lane, PROMPT, 50)
    assert decoded.token_ids == truth[:50]
    # The last steps draft less than a block, so only whole blocks tell.
    whole = [step for step in decoded.steps if len(step.drafted_ids) == 15]
    assert whole
    assert {step.num_accepted for step in whole} == {accepted}


def test_mixed_accepted_lengths_leave_no_stale_cache(
    models: TorchModels, run_lane: Callable[..., Any]
) -> None:
    truth = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 180, num_draft=0).token_ids
    accepted = [15, 0, 7, 1, 14, 3, 0, 0, 9, 2, 15, 5, 4, 12, 6, 11, 10, 13, 8] * 6
    lane = _oracle(models, truth, list(accepted))
    decoded = run_lane(lane, PROMPT, 140)
    assert decoded.token_ids == truth[:140]
    # The drafter's context must be what a fresh lane builds from the committed tokens alone.
    committed = (PROMPT + truth)[: lane.length]
    fresh = models.open_lane(GREEDY, "dflash")
    fresh.extend(committed)
    assert_same_context(lane._prefix.context, fresh._prefix.context, atol=1e-4)


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_greedy_under_a_repetition_penalty_is_lossless_for_every_accepted_length(
    models: TorchModels, reference: Any, run_lane: Callable[..., Any], penalty: float
) -> None:
    sampling = SamplingParams(repetition_penalty=penalty)
    truth = run_lane(models.open_lane(sampling, "ar"), PROMPT, 150, num_draft=0).token_ids
    assert truth == _generate(reference, PROMPT, 150, repetition_penalty=penalty)
    assert truth[:30] != run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 30).token_ids
    assert run_lane(models.open_lane(sampling, "dflash"), PROMPT, 60).token_ids == truth[:60]
    oracle = _oracle(models, truth, [*range(15, -1, -1)] * 10, sampling)
    assert run_lane(oracle, PROMPT, 130).token_ids == truth[:130]


def test_a_rewound_lane_does_not_penalise_what_it_forgot(
    models: TorchModels, run_lane: Callable[..., Any]
) -> None:
    sampling = SamplingParams(repetition_penalty=1.5)
    expected = run_lane(models.open_lane(sampling, "dflash"), PROMPT, 40).token_ids
    lane = models.open_lane(sampling, "dflash")
    lane.extend([*PROMPT[:4], *expected])
    lane.first_token()
    lane.rewind(4)
    assert run_lane(lane, PROMPT, 40).token_ids == expected


@pytest.mark.parametrize("stop_index", [0, 1, 7, 20])
def test_stop_token_inside_a_block_ends_both_modes_alike(
    models: TorchModels, run_lane: Callable[..., Any], stop_index: int
) -> None:
    truth = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 60, num_draft=0).token_ids
    eos = frozenset({truth[stop_index]})
    ar = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 60, eos_ids=eos, num_draft=0)
    dflash = run_lane(_oracle(models, truth, [15] * 60), PROMPT, 60, eos_ids=eos)
    assert ar.token_ids == dflash.token_ids == truth[: truth.index(truth[stop_index]) + 1]
    assert ar.reason == dflash.reason == "stop"


def test_chunked_prefill_gives_the_same_tokens_as_one_forward(
    models: TorchModels, run_lane: Callable[..., Any]
) -> None:
    prompt = PROMPT * 6
    whole = run_lane(models.open_lane(GREEDY, "dflash"), prompt, 30)
    chunked = run_lane(models.open_lane(GREEDY, "dflash"), prompt, 30, prefill_chunk=5)
    assert whole.token_ids == chunked.token_ids
    assert [step.drafted_ids for step in whole.steps] == [s.drafted_ids for s in chunked.steps]


@pytest.mark.parametrize("block_size", [2, 5, 16])
def test_smaller_blocks_and_fewer_drafts_stay_lossless(
    models: TorchModels, reference: Any, run_lane: Callable[..., Any], block_size: int
) -> None:
    expected = _generate(reference, PROMPT, 30)
    lane = models.open_lane(GREEDY, "dflash", block_size)
    decoded = run_lane(lane, PROMPT, 30, num_draft=block_size - 1)
    assert decoded.token_ids == expected
    assert max(len(step.drafted_ids) for step in decoded.steps) == block_size - 1
    fewer = run_lane(models.open_lane(GREEDY, "dflash"), PROMPT, 30, num_draft=1)
    assert fewer.token_ids == expected


def test_steps_without_drafts_keep_the_drafters_context_whole(
    models: TorchModels, reference: Any, run_lane: Callable[..., Any]
) -> None:
    lane = models.open_lane(GREEDY, "dflash")
    decoded = run_lane(lane, PROMPT, 12, num_draft=0)
    assert decoded.token_ids == _generate(reference, PROMPT, 12)
    assert lane._prefix.context.length == lane.length == len(PROMPT) + 11


def test_rewinding_into_the_prompt_leaves_nothing_of_what_was_there(
    models: TorchModels, run_lane: Callable[..., Any]
) -> None:
    prompt = PROMPT * 3
    lane = models.open_lane(GREEDY, "dflash")
    lane.extend([*prompt[:12], 90, 91, 92, 93])
    lane.first_token()
    lane.verify(lane.propose(15))
    lane.rewind(12)
    assert lane.length == lane._prefix.context.length == 12
    fresh = run_lane(models.open_lane(GREEDY, "dflash"), prompt, 20)
    reused = run_lane(lane, prompt, 20)
    assert reused.token_ids == fresh.token_ids
    assert [step.drafted_ids for step in reused.steps] == [s.drafted_ids for s in fresh.steps]


def test_confidences_are_the_drafters_softmax_at_its_own_drafts(
    models: TorchModels, make_drafter: Callable[..., Any]
) -> None:
    lane = models.open_lane(GREEDY, "dflash")
    lane.extend(PROMPT)
    lane.first_token()
    draft = lane.propose(15)
    with torch.inference_mode():
        drafter, target = make_drafter(96), models.target
        block = drafter.embed(lane._block()[0][None], target.embedding)
        hidden = lane._prefix.context.draft(block)[0]
        best = drafter.logits(hidden, target.head).softmax(-1).max(-1)
    verified = lane.verify(draft)
    assert verified.drafted_ids == tuple(best.indices.tolist())
    assert verified.confidences == pytest.approx(best.values.tolist(), abs=2e-6)


def test_sliding_target_is_lossless_beyond_its_window(
    make_target: Callable[..., Any], make_drafter: Callable[..., Any], run_lane: Callable[..., Any]
) -> None:
    target = make_target(
        "qwen3",
        96,
        use_sliding_window=True,
        sliding_window=20,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    models = TorchModels(target, make_drafter(96))
    truth = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 70, num_draft=0).token_ids
    assert truth == _generate(target.model, PROMPT, 70)
    decoded = run_lane(_oracle(models, truth, [4, 0, 15, 9, 1] * 20), PROMPT, 60)
    assert decoded.token_ids == truth[:60]


def test_bfloat16_differs_only_where_the_targets_margin_is_rounding_noise(
    make_target: Callable[..., Any], make_drafter: Callable[..., Any], run_lane: Callable[..., Any]
) -> None:
    target = make_target("qwen3", 96)
    target.model.to(torch.bfloat16)
    models = TorchModels(target, make_drafter(96).to(torch.bfloat16))
    assert models.dtype == "bfloat16"
    ar = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 60, num_draft=0).token_ids
    dflash = run_lane(models.open_lane(GREEDY, "dflash"), PROMPT, 60).token_ids
    pairs = enumerate(zip(ar, dflash, strict=True))
    first = next((index for index, (one, two) in pairs if one != two), None)
    if first is not None:
        pair = (ar[first], dflash[first])
        left, right = models.next_logits([*PROMPT, *ar[:first]], pair)
        assert abs(left - right) <= 0.0625 * max(1.0, abs(left))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_dflash_equals_cuda_ar_but_for_rounding(
    make_target: Callable[..., Any],
    make_drafter: Callable[..., Any],
    run_lane: Callable[..., Any],
    dtype: torch.dtype,
) -> None:
    target = make_target("qwen3", 96)
    target.model.to("cuda", dtype)
    models = TorchModels(target, make_drafter(96).to("cuda", dtype))
    ar = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 80, num_draft=0).token_ids
    dflash = run_lane(models.open_lane(GREEDY, "dflash"), PROMPT, 80).token_ids
    if dtype == torch.float32:
        assert dflash == ar
    elif dflash != ar:
        first = next(i for i, (a, b) in enumerate(zip(ar, dflash, strict=True)) if a != b)
        left, right = models.next_logits([*PROMPT, *ar[:first]], (ar[first], dflash[first]))
        assert abs(left - right) <= 0.0625 * max(1.0, abs(left))


def test_lanes_are_refused_without_a_drafter_or_with_too_large_a_block(
    models: TorchModels,
) -> None:
    alone = TorchModels(models.target, None)
    assert (alone.block_size, alone.max_block_size) == (None, None)
    with pytest.raises(RequestError, match="needs a drafter"):
        alone.open_lane(GREEDY, "dflash", None)
    with pytest.raises(RequestError, match="2 to 64 tokens, not 65"):
        models.open_lane(GREEDY, "dflash", 65)


def test_memory_counts_tied_weights_once_and_close_frees_them(
    make_target: Callable[..., Any],
) -> None:
    tied = TorchModels(make_target("qwen3", 96, tie_word_embeddings=True), None)
    untied = TorchModels(make_target("qwen3", 96), None)
    assert untied.memory_bytes() - tied.memory_bytes() == 96 * 32 * 4
    tied.close()
    assert tied.memory_bytes() == 0
    with pytest.raises(RequestError, match="load it again"):
        tied.open_lane(GREEDY, "ar", None)
