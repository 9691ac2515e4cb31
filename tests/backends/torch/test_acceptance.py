"""Sampled DFlash has the target's own distribution; seeds repeat."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.acceptance import (
    draw,
    greedy_accept,
    penalise_repetition,
    rejection_accept,
    sampling_probs,
)
from dflash_app.backends.torch.models import TorchModels
from dflash_app.request import Mode, SamplingParams
from tests.backends.torch.chi_square import (
    PROCESSORS,
    chance_of,
    distribution_of_sequences,
    draw_sequences,
    transformers_probs,
)

VOCAB = 6
PROMPT = [1, 1]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
    assert chance_of(counts, {1: 0.5, 2: 0.3, 4: 0.2}) > 0.001


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
    assert chance_of(firsts, expected) > 0.001
    # The bonus after an accepted draft is the target's own next token.
    after = Counter({b: sum(n for (_, x), n in pairs.items() if x == b) for b in range(VOCAB)})
    expected = {token: float(target_probs[1, token]) for token in range(VOCAB)}
    assert chance_of(after, expected) > 0.001


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


@pytest.fixture(scope="module")
def tiny(make_target: Callable[..., Any], make_drafter: Callable[..., Any]) -> TorchModels:
    """A vocabulary of four, so that every sequence of three tokens can be counted."""
    target = make_target("qwen3", 4, num_hidden_layers=1)
    target.head.weight.mul_(0.8)  # flat enough that drafter and target often agree
    config = {"block_size": 4, "mask_token_id": 3, "target_layer_ids": [0]}
    drafter = make_drafter(4, num_hidden_layers=1, num_target_layers=1, dflash_config=config)
    return TorchModels(target, drafter)


@pytest.mark.parametrize(
    ("mode", "processors"),
    [("ar", "none"), ("ar", "all"), *(("dflash", processors) for processors in PROCESSORS)],
)
def test_sampled_sequences_have_the_targets_distribution(
    tiny: TorchModels, mode: Mode, processors: str
) -> None:
    sampling = SamplingParams(**{"temperature": 1.0, "seed": 0} | PROCESSORS[processors])
    sequences, accepted = draw_sequences(tiny, PROMPT, sampling, mode, 1500)
    assert chance_of(sequences, distribution_of_sequences(tiny, PROMPT, sampling)) > 0.001
    if mode == "dflash":
        assert min(accepted[number] for number in range(3)) > 50
    if processors != "none":
        plain = distribution_of_sequences(tiny, PROMPT, SamplingParams(temperature=1.0))
        assert chance_of(sequences, plain) < 1e-9, "too few draws to see the processor at all"


def test_sampled_sequences_have_the_targets_distribution_while_the_draft_length_changes(
    tiny: TorchModels,
) -> None:
    sampling = SamplingParams(temperature=1.0, seed=0)
    widths = (2, 0, 1, 0, 0, 2, 1)
    sequences, accepted = draw_sequences(tiny, PROMPT, sampling, "dflash", 1500, widths)
    assert chance_of(sequences, distribution_of_sequences(tiny, PROMPT, sampling)) > 0.001
    assert min(accepted[number] for number in range(3)) > 50


@pytest.mark.parametrize("processors", PROCESSORS)
@pytest.mark.parametrize("num_rows", [1, 5])
def test_processed_probabilities_are_those_of_transformers_row_by_row(
    processors: str, num_rows: int
) -> None:
    sampling = SamplingParams(**{"temperature": 1.0} | PROCESSORS[processors])
    logits = torch.randn(num_rows, 40, generator=_generator()) * 3
    # Repeated tokens are penalised once, and an id beyond the head's rows not at all.
    history = [3, 3, 7, 11, 45, 0, 7, *logits.argmax(-1).tolist()]
    penalised = penalise_repetition(logits, torch.tensor(history), sampling.repetition_penalty)
    probs = sampling_probs(penalised, sampling)
    for row in range(num_rows):
        known = history[: len(history) - num_rows + row + 1]
        expected = transformers_probs(logits[row : row + 1].clone(), known, sampling)[0]
        assert torch.allclose(probs[row], expected, atol=1e-6)
        assert ((probs[row] > 0) == (expected > 0)).all()


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
