"""Lanes on MLX: lossless with a real drafter, and everything a request may ask for."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from dflash_app.backends.mlx.dflash import DFlashDrafter
from dflash_app.backends.mlx.lane import MlxLane
from dflash_app.backends.mlx.loading import load_drafter, load_target
from dflash_app.backends.mlx.models import MlxModels
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.backends.torch.selftest.decoding import run_lane
from dflash_app.errors import RequestError
from dflash_app.request import SamplingParams
from tests.backends.mlx.oracle import GREEDY, OracleLane
from tests.backends.torch.drafter_files import random_drafter

PROMPT = [5, 17, 3, 42, 8, 11, 29]
BLOCK_SIZE = 8
DFLASH2 = {
    "architectures": ["DFlash2DraftModel"],
    "conv_kernel_size": 2,
    "conv_group_size": 8,
    "selector_rank": 4,
    "selector_top_k": 6,
}


@pytest.fixture(scope="module", params=[{}, DFLASH2], ids=["DFlash", "DFlash 2"])
def drafter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> DFlashDrafter:
    folder = tmp_path_factory.mktemp("drafter")
    save_drafter(random_drafter(**request.param), folder)
    return load_drafter(folder, mx.float32)


@pytest.fixture(scope="module", params=["qwen3", "qwen3_5"])
def models(
    request: pytest.FixtureRequest,
    target_folder: Callable[[str], Path],
    drafter: DFlashDrafter,
) -> MlxModels:
    return MlxModels(load_target(target_folder(request.param), mx.float32), drafter)


def plain(models: MlxModels, num_tokens: int, sampling: SamplingParams = GREEDY) -> list[int]:
    return run_lane(models.open_lane(sampling, "ar"), PROMPT, num_tokens, num_draft=0).token_ids


def test_dflash_with_a_real_drafter_is_plain_decoding(models: MlxModels) -> None:
    found = run_lane(models.open_lane(GREEDY, "dflash"), PROMPT, 60, num_draft=BLOCK_SIZE - 1)
    assert found.token_ids == plain(models, 60)
    assert all(step.confidences for step in found.steps if step.drafted_ids)


@pytest.mark.parametrize("block_size", [2, 5, 12])
def test_blocks_of_other_sizes_are_lossless(models: MlxModels, block_size: int) -> None:
    lane = models.open_lane(GREEDY, "dflash", block_size)
    found = run_lane(lane, PROMPT, 40, num_draft=block_size - 1)
    assert found.token_ids == plain(models, 40)
    assert len(found.steps[0].drafted_ids) == block_size - 1


def test_the_drafters_context_is_that_of_the_committed_tokens_alone(models: MlxModels) -> None:
    truth = plain(models, 120)
    accepted = [7, 0, 3, 1, 6, 0, 0, 5, 2, 4] * 2
    lane = OracleLane(models.target, PROMPT, truth, accepted, drafter=models._drafter)
    found = run_lane(lane, PROMPT, 80, num_draft=BLOCK_SIZE - 1)
    assert found.token_ids == truth[:80]
    fresh = models.open_lane(GREEDY, "dflash")
    fresh.extend((PROMPT + truth)[: lane.length])
    for held, expected in zip(
        lane._prefix.context.layers(), fresh._prefix.context.layers(), strict=True
    ):
        for array, wanted in zip(held, expected, strict=True):
            assert array.shape == wanted.shape
            assert mx.allclose(array, wanted, atol=1e-4)


@pytest.mark.parametrize("penalty", [0.7, 1.5])
def test_greedy_under_a_repetition_penalty_is_lossless(models: MlxModels, penalty: float) -> None:
    sampling = SamplingParams(repetition_penalty=penalty)
    truth = plain(models, 60, sampling)
    assert truth != plain(models, 60)
    lane = OracleLane(models.target, PROMPT, truth, [*range(7, -1, -1)] * 3, sampling=sampling)
    assert run_lane(lane, PROMPT, 50, num_draft=7).token_ids == truth[:50]


def test_a_seed_repeats_a_sampled_run_and_another_does_not(models: MlxModels) -> None:
    def sampled(seed: int) -> list[int]:
        lane = models.open_lane(SamplingParams(temperature=1.0, seed=seed), "dflash")
        return run_lane(lane, PROMPT, 30, num_draft=7).token_ids

    assert sampled(3) == sampled(3) != sampled(4)


def test_next_logits_are_those_that_greedy_decoding_compares(models: MlxModels) -> None:
    truth = plain(models, 5)
    logits = models.next_logits([*PROMPT, *truth[:4]], range(models.target.vocab_size))
    assert max(range(len(logits)), key=logits.__getitem__) == truth[4]
    assert models.next_logits(PROMPT, [truth[0], 1])[0] > models.next_logits(PROMPT, [1])[0]


def test_a_step_waits_for_the_device_once(
    models: MlxModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = models.open_lane(GREEDY, "dflash", None, PROMPT)
    lane.extend(PROMPT)
    lane.first_token()
    waits, evaluate = [], mx.eval

    def wait(*arrays: object) -> None:
        waits.append(len(arrays))
        evaluate(*arrays)  # type: ignore[arg-type]

    monkeypatch.setattr(mx, "eval", wait)
    monkeypatch.setattr(mx, "synchronize", wait)
    draft = lane.propose(7)
    verified = lane.verify(draft)
    lane.rewind(len(PROMPT) + 1 + verified.num_accepted)
    assert len(waits) == 1  # for all that is read of it


SAMPLINGS = [
    GREEDY,
    SamplingParams(temperature=0.9, top_p=0.9, seed=4),
    SamplingParams(repetition_penalty=1.4),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "sampled", "penalised"])
@pytest.mark.parametrize("name", ["qwen3", "gpt_oss", "gemma4_text shared", "qwen3_5"])
def test_plain_decoding_that_works_ahead_says_what_it_says_step_by_step(
    name: str, sampling: SamplingParams, target_folder: Callable[[str], Path]
) -> None:
    models = MlxModels(load_target(target_folder(name), mx.float32), None)
    expected = plain(models, 60, sampling)
    lane = models.open_lane(sampling, "ar", None, PROMPT)
    found = run_lane(lane, PROMPT, 60, num_draft=0).token_ids
    assert found == expected
    # The step that was started ahead leaves no trace: the lane reads on as a fresh one would.
    assert lane.length == len(PROMPT) + 59
    rest = [*found[-1:], 9, 2, 4]
    lane.extend(rest)
    fresh = MlxLane(models.target, None, sampling)
    fresh.extend([*PROMPT, *found[:-1], *rest])
    assert lane._last_logits is not None
    assert fresh._last_logits is not None
    assert mx.allclose(lane._last_logits, fresh._last_logits, atol=1e-4)
    assert lane.first_token() == fresh.first_token() or not sampling.greedy


def test_only_a_lane_that_is_alone_leaves_work_to_the_device(
    models: MlxModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = mx.async_eval, []

    def note(*arrays: object) -> None:
        begun.append(len(arrays))
        begin(*arrays)  # type: ignore[arg-type]

    monkeypatch.setattr(mx, "async_eval", note)
    for prompt_ids, works_ahead in ((None, False), (PROMPT, True)):
        begun.clear()
        run_lane(models.open_lane(GREEDY, "ar", None, prompt_ids), PROMPT, 6, num_draft=0)
        assert len(begun) == (5 if works_ahead else 0)


def test_nothing_is_started_behind_the_end_of_the_context(
    models: MlxModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.target, "context_length", len(PROMPT) + 3)
    lane = models.open_lane(GREEDY, "ar", None, PROMPT)
    lane.extend(PROMPT)
    lane.first_token()
    for number in range(1, 4):
        lane.verify(lane.propose(0))
        lane.rewind(len(PROMPT) + number)
    assert lane._prefix.cache.layers[-1].offset == len(PROMPT) + 3


def test_what_cannot_be_opened_is_refused_with_the_cure(models: MlxModels) -> None:
    with pytest.raises(RequestError, match="2 to 64"):
        models.open_lane(GREEDY, "dflash", 65)
    alone = MlxModels(models.target, None)
    with pytest.raises(RequestError, match="load a pair with one"):
        alone.open_lane(GREEDY, "dflash")
    alone.close()
    with pytest.raises(RequestError, match="load it again"):
        alone.open_lane(GREEDY, "ar")
