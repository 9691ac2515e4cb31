"""What is drawn has the target's own distribution: by transformers' processors, by chi-square."""

from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from dflash_app.backends.mlx.acceptance import (
    RandomState,
    draw,
    greedy_accept,
    penalise_repetition,
    rejection_accept,
    sampling_probs,
)
from dflash_app.backends.mlx.loading import load_drafter, load_target
from dflash_app.backends.mlx.models import MlxModels
from dflash_app.backends.torch.acceptance import penalise_repetition as torch_penalise
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.request import SamplingParams
from tests.backends.mlx.test_lane import DFLASH2
from tests.backends.mlx.tiny_models import write_target
from tests.backends.torch.chi_square import PROCESSORS, chance_of, transformers_probs
from tests.backends.torch.drafter_files import random_drafter

NUM_DRAWS = 500


@pytest.mark.parametrize("num_accepted", range(5))
def test_greedy_acceptance_is_the_longest_matching_prefix(num_accepted: int) -> None:
    target = [3, 1, 4, 1, 5]
    draft = target[:4]
    if num_accepted < 4:
        draft[num_accepted] = 9
    assert greedy_accept(draft, target) == (num_accepted, target[num_accepted])


def test_plain_decoding_is_acceptance_of_no_draft() -> None:
    assert greedy_accept([], [2]) == (0, 2)


def test_lengths_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="2 drafts need 3 target rows"):
        greedy_accept([1, 2], [3, 4, 5, 6])
    with pytest.raises(ValueError, match="1 drafts need 2 target rows"):
        rejection_accept(mx.array([1]), mx.eye(4)[:1], mx.eye(4), RandomState(0))


@pytest.mark.parametrize("name", PROCESSORS)
def test_processors_are_those_of_transformers(name: str) -> None:
    sampling = SamplingParams(**{"temperature": 1.0, **PROCESSORS[name]})
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(1)) * 3
    before = [3, 7, 7, 40]
    expected = transformers_probs(logits, before, sampling)
    penalised = penalise_repetition(
        mx.array(logits.numpy()), mx.array(before), sampling.repetition_penalty
    )
    np.testing.assert_allclose(
        np.array(sampling_probs(penalised, sampling)), expected.numpy(), atol=1e-6
    )


def test_the_penalty_judges_each_draft_under_those_before_it_as_in_torch() -> None:
    logits = torch.randn(4, 12, generator=torch.Generator().manual_seed(2))
    history = [3, 11, 99, 5, 5, 0, 7]
    expected = torch_penalise(logits, torch.tensor(history), 1.7)
    found = penalise_repetition(mx.array(logits.numpy()), mx.array(history), 1.7)
    np.testing.assert_allclose(np.array(found), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("same", [False, True])
def test_rejection_gives_the_targets_distribution(same: bool) -> None:
    target = np.array([[0.5, 0.2, 0.2, 0.1, 0.0], [0.1, 0.1, 0.1, 0.3, 0.4]], dtype=np.float32)
    drafted = target[:1] if same else np.array([[0.1, 0.6, 0.1, 0.2, 0.0]], dtype=np.float32)
    random, first, second = RandomState(5), Counter[int](), Counter[int]()
    p, q = mx.array(target), mx.array(drafted)
    for _ in range(1000):
        draft = draw(q, random)
        accepted, bonus = rejection_accept(draft, q, p, random)
        if accepted.item():
            first[int(draft.item())] += 1
            second[int(bonus.item())] += 1
        else:
            first[int(bonus.item())] += 1
    assert chance_of(first, dict(enumerate(target[0].tolist()))) > 0.001
    assert chance_of(second, dict(enumerate(target[1].tolist()))) > 0.001
    assert (first.total() == second.total()) is same


@pytest.mark.parametrize("changes", [{}, DFLASH2], ids=["DFlash", "DFlash 2"])
@pytest.mark.parametrize("name", ["none", "all"])
def test_sampled_dflash_has_the_targets_distribution(
    name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    models = _models_of_few_tokens(tmp_path, changes)
    sampling = SamplingParams(**{"temperature": 1.0, "seed": 11, **PROCESSORS[name]})
    prompt = [6, 6, 2, 0]
    expected = {
        (first, second): prob * each
        for first, prob in _after(models, prompt, sampling).items()
        for second, each in _after(models, [*prompt, first], sampling).items()
    }
    lane = models.open_lane(sampling, "dflash")
    lane.extend(prompt[:-1])
    lane.first_token()
    seen, lengths = Counter[tuple[int, int]](), Counter[int]()
    for _ in range(NUM_DRAWS):
        lane.rewind(len(prompt) - 1)
        lane._anchor_id = prompt[-1]  # so that steps make both tokens
        verified = lane.verify(lane.propose(1))
        lane.rewind(len(prompt) + verified.num_accepted)
        lengths[verified.num_accepted] += 1
        token_ids = verified.token_ids
        if len(token_ids) < 2:
            token_ids += lane.verify(lane.propose(0)).token_ids
        seen[token_ids[0], token_ids[1]] += 1
    assert chance_of(seen, expected) > 0.001
    assert min(lengths[0], lengths[1]) > NUM_DRAWS / 20


def _models_of_few_tokens(folder: Path, changes: dict[str, Any]) -> MlxModels:
    write_target("qwen3", folder / "target", vocab_size=8)
    save_drafter(random_drafter(**changes, vocab_size=8, mask_token_id=7), folder / "drafter")
    target = load_target(folder / "target", mx.float32)
    return MlxModels(target, load_drafter(folder / "drafter", mx.float32))


def _after(models: MlxModels, ids: list[int], sampling: SamplingParams) -> dict[int, float]:
    logits = torch.tensor([models.next_logits(ids, range(models.target.vocab_size))])
    probs = transformers_probs(logits, ids, sampling)[0].tolist()
    return {token: prob for token, prob in enumerate(probs) if prob}
