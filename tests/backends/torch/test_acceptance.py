"""Sampled DFlash has the target's own distribution; seeds repeat."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.acceptance import (
    draw,
    greedy_accept,
    rejection_accept,
    sampling_probs,
)
from dflash_app.backends.torch.models import TorchModels
from dflash_app.request import SamplingParams

VOCAB = 6


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _chi_square_per_degree(counts: Counter[Any], probs: dict[Any, float], total: int) -> float:
    """About 1 for the right distribution; cells expected under five times are pooled."""
    statistic, cells, rare_seen, rare_expected = 0.0, 0, 0, 0.0
    for outcome, prob in probs.items():
        if prob * total < 5:
            rare_seen, rare_expected = rare_seen + counts[outcome], rare_expected + prob * total
        else:
            statistic += (counts[outcome] - prob * total) ** 2 / (prob * total)
            cells += 1
    if rare_expected >= 1:
        statistic += (rare_seen - rare_expected) ** 2 / rare_expected
        cells += 1
    else:
        assert rare_seen <= 5
    return statistic / (cells - 1)


@pytest.mark.parametrize("matching", range(5))
def test_greedy_accepts_exactly_the_matching_prefix(matching: int) -> None:
    target_ids = torch.tensor([3, 1, 4, 1, 5])
    logits = torch.nn.functional.one_hot(target_ids, VOCAB).float()
    drafts = target_ids[:4].clone()
    if matching < 4:
        drafts[matching] = 0
    accepted, bonus = greedy_accept(drafts, logits)
    assert (int(accepted), int(bonus)) == (matching, int(target_ids[matching]))


def test_a_match_after_the_first_mismatch_does_not_count() -> None:
    logits = torch.eye(VOCAB)[[1, 2, 3, 4]]
    accepted, bonus = greedy_accept(torch.tensor([0, 2, 3]), logits)
    assert (int(accepted), int(bonus)) == (0, 1)


def test_lengths_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="3 drafts need 4 target rows, not 3"):
        greedy_accept(torch.zeros(3, dtype=torch.int64), torch.zeros(3, VOCAB))


def test_temperature_top_k_and_top_p_keep_what_they_say() -> None:
    logits = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0, -1.0]])
    plain = torch.softmax(logits / 2, -1)
    assert torch.allclose(sampling_probs(logits, SamplingParams(2.0)), plain)
    top_k = sampling_probs(logits, SamplingParams(2.0, top_k=2))
    assert torch.allclose(
        top_k, torch.cat([plain[:, :2], plain[:, 2:] * 0], -1) / plain[0, :2].sum()
    )
    # 0.40 and 0.24 do not reach 0.7; the third crosses it and stays.
    top_p = sampling_probs(logits, SamplingParams(2.0, top_p=0.7))
    assert (top_p > 0).tolist() == [[True, True, True, False, False, False]]
    assert float(top_p.sum()) == pytest.approx(1.0)


def test_the_smallest_temperature_is_greedy_and_not_nan() -> None:
    logits = torch.tensor([[1.0, 1.001, 0.5]])
    probs = sampling_probs(logits, SamplingParams(1e-300))
    assert probs[0].tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-30)


def test_tokens_without_mass_are_never_drawn_and_the_rest_in_proportion() -> None:
    probs = torch.tensor([0.0, 0.5, 0.3, 0.0, 0.2, 0.0]).repeat(20_000, 1)
    counts = Counter(draw(probs, _generator()).tolist())
    assert set(counts) == {1, 2, 4}
    expected = {1: 0.5, 2: 0.3, 4: 0.2}
    assert _chi_square_per_degree(counts, expected, 20_000) < 5


@pytest.mark.parametrize("seed", [0, 1])
def test_rejection_rule_gives_the_targets_distribution_of_two_tokens(seed: int) -> None:
    generator = _generator(seed)
    draft_probs = torch.softmax(torch.randn(1, VOCAB, generator=generator) * 1.5, -1)
    target_probs = torch.softmax(torch.randn(2, VOCAB, generator=generator) * 1.5, -1)
    total, firsts, pairs = 12_000, Counter[int](), Counter[tuple[int, int]]()
    for _ in range(total):
        drafts = draw(draft_probs, generator)
        accepted, bonus = rejection_accept(drafts, draft_probs, target_probs, generator)
        if int(accepted):
            pairs[int(drafts[0]), int(bonus)] += 1
            firsts[int(drafts[0])] += 1
        else:
            firsts[int(bonus)] += 1
    expected = {token: float(target_probs[0, token]) for token in range(VOCAB)}
    assert _chi_square_per_degree(firsts, expected, total) < 3.5
    # The bonus after an accepted draft is the target's own next token.
    after = Counter({b: sum(n for (_, x), n in pairs.items() if x == b) for b in range(VOCAB)})
    expected = {token: float(target_probs[1, token]) for token in range(VOCAB)}
    assert _chi_square_per_degree(after, expected, after.total()) < 3.5


def test_equal_distributions_accept_every_draft() -> None:
    probs = torch.softmax(torch.randn(16, VOCAB, generator=_generator()), -1)
    for seed in range(50):
        generator = _generator(seed)
        drafts = draw(probs[:15], generator)
        accepted, _ = rejection_accept(drafts, probs[:15], probs, generator)
        assert int(accepted) == 15


def test_a_draft_the_target_excludes_is_always_replaced_by_one_it_allows() -> None:
    draft_probs = torch.tensor([[1.0, 0.0, 0.0]])
    target_probs = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
    for seed in range(50):
        accepted, bonus = rejection_accept(
            torch.tensor([0]), draft_probs, target_probs, _generator(seed)
        )
        assert int(accepted) == 0
        assert int(bonus) in (1, 2)


@pytest.mark.parametrize(
    "sampling", [{"temperature": 1.0}, {"temperature": 0.8, "top_k": 5, "top_p": 0.95}]
)
def test_sampled_dflash_sequences_have_the_targets_distribution(
    make_target: Callable[..., Any],
    make_drafter: Callable[..., Any],
    sampling: dict[str, Any],
) -> None:
    target = make_target("qwen3", VOCAB)
    target.head.weight.mul_(0.3)  # flat enough that drafter and target often agree
    models = TorchModels(target, make_drafter(VOCAB))
    prompt, total = [1, 2, 3], 500
    params = SamplingParams(**sampling)
    expected = _two_token_distribution(models, prompt, params)
    counts: Counter[tuple[int, int]] = Counter()
    accepted = 0
    for seed in range(total):
        lane = models.open_lane(SamplingParams(**sampling, seed=seed), "dflash")
        lane.extend(prompt)
        first = lane.first_token()
        verified = lane.verify(lane.propose(15))
        counts[first, verified.token_ids[0]] += 1
        accepted += verified.num_accepted
    assert 0 < accepted < 15 * total
    assert set(counts) <= {pair for pair, prob in expected.items() if prob > 0}
    assert _chi_square_per_degree(counts, expected, total) < 2.5


def _two_token_distribution(
    models: TorchModels, prompt: list[int], params: SamplingParams
) -> dict[tuple[int, int], float]:
    def probs(token_ids: list[int]) -> list[float]:
        logits = torch.tensor([models.next_logits(token_ids, range(VOCAB))])
        return sampling_probs(logits, params)[0].tolist()

    first = probs(prompt)
    second = [probs([*prompt, token]) for token in range(VOCAB)]
    return {(a, b): first[a] * second[a][b] for a, b in itertools.product(range(VOCAB), repeat=2)}


@pytest.mark.parametrize("mode", ["ar", "dflash"])
def test_a_seed_repeats_its_output_and_another_seed_changes_it(
    models: TorchModels, run_lane: Callable[..., Any], mode: Any
) -> None:
    def run(seed: int | None) -> list[int]:
        lane = models.open_lane(SamplingParams(1.0, seed=seed), mode)
        return run_lane(lane, [4, 9, 2], 20, num_draft=0 if mode == "ar" else 15).token_ids

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert run(None) != run(None)
