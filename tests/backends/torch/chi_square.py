"""Whether drawn tokens have the target's own distribution: draws, what they must be, a verdict."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from dflash_app.backends.torch.models import TorchModels
from dflash_app.request import Mode, SamplingParams

PROCESSORS: dict[str, dict[str, Any]] = {
    "none": {},
    "temperature": {"temperature": 0.7},
    "top-k": {"top_k": 3},
    "top-p": {"top_p": 0.8},
    "min-p": {"min_p": 0.2},
    "repetition penalty": {"repetition_penalty": 4.0},
    "all": {
        "temperature": 1.3,
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.2,
        "repetition_penalty": 3.0,
    },
}
"""By name: changes to plain sampling at temperature 1."""

NUM_DRAFTS = 2
LENGTH = NUM_DRAFTS + 1
"""Tokens of a drawn sequence: a whole step's, the bonus after accepted drafts included."""


def chance_of(counts: Counter[Any], probs: Mapping[Any, float]) -> float:
    """Pearson's chi-square test: how often the distribution itself would look worse than this.

    Cells expected under five times are pooled. 0 where something impossible was seen.

    Args:
        counts: how often each outcome came.
        probs: of every outcome that may come, sum 1.
    """
    total = counts.total()
    expected = {outcome: prob * total for outcome, prob in probs.items()}
    if any(expected.get(outcome, 0.0) == 0.0 for outcome in counts):
        return 0.0
    often = {outcome: times for outcome, times in expected.items() if times >= 5}
    cells = [(counts[outcome], times) for outcome, times in often.items()]
    rare = sum(expected.values()) - sum(often.values())
    if rare >= 1:
        cells.append((total - sum(counts[outcome] for outcome in often), rare))
    statistic = sum((seen - times) ** 2 / times for seen, times in cells)
    halves = torch.tensor([len(cells) - 1, statistic], dtype=torch.float64) / 2
    return float(torch.special.gammaincc(halves[0], halves[1]))


def draw_sequences(
    models: TorchModels,
    prompt: Sequence[int],
    sampling: SamplingParams,
    mode: Mode,
    num_draws: int,
    widths: Sequence[int] = (NUM_DRAFTS,),
) -> tuple[Counter[tuple[int, ...]], Counter[int]]:
    """Sample many short outputs of one prompt on one lane, which goes back after each.

    The first token, which no step made, is drawn anew each time and not counted.

    Args:
        models: target, and drafter where the mode is "dflash".
        prompt: at least two tokens.
        sampling: with a seed.
        mode: "dflash" drafts.
        num_draws: outputs.
        widths: drafts of the steps in turn, as a policy may want them; none are made in "ar".

    Returns:
        (sequences, accepted): how often each `LENGTH` tokens came, and how often a step accepted
        that many drafts.
    """
    num_drafts = cycle(widths if mode == "dflash" else (0,))
    sequences, accepted = Counter[tuple[int, ...]](), Counter[int]()
    lane = models.open_lane(sampling, mode)
    lane.extend(prompt[:-1])
    for _ in range(num_draws):
        lane.rewind(len(prompt) - 1)
        lane.extend(prompt[-1:])
        token_ids = [lane.first_token()]
        while len(token_ids) <= LENGTH:
            verified = lane.verify(lane.propose(next(num_drafts)))
            lane.rewind(len(prompt) + len(token_ids) + verified.num_accepted)
            token_ids += verified.token_ids
            accepted[verified.num_accepted] += 1
        sequences[tuple(token_ids[1 : LENGTH + 1])] += 1
    return sequences, accepted


def distribution_of_sequences(
    models: TorchModels, prompt: Sequence[int], sampling: SamplingParams
) -> dict[tuple[int, ...], float]:
    """What `draw_sequences` must give, by plain forwards and transformers' own processors."""
    vocab = range(models.target.vocab_size)
    found: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(1 + LENGTH):
        longer = {}
        for token_ids, prob in found.items():
            ids = [*prompt, *token_ids]
            logits = torch.tensor([models.next_logits(ids, vocab)])
            probs = transformers_probs(logits, ids, sampling)[0].tolist()
            longer |= {(*token_ids, token): prob * each for token, each in enumerate(probs) if each}
        found = longer
    over_first_tokens: dict[tuple[int, ...], float] = defaultdict(float)
    for token_ids, prob in found.items():
        over_first_tokens[token_ids[1:]] += prob
    return over_first_tokens


def transformers_probs(
    logits: torch.Tensor, token_ids: Sequence[int], sampling: SamplingParams
) -> torch.Tensor:
    """What transformers' generate draws from: its processors in its order, each always on.

    Args:
        logits: [1, V] float after `token_ids`.
        token_ids: all tokens before.
        sampling: temperature above 0.

    Returns:
        [1, V] float, sum 1.
    """
    vocab_size = logits.shape[-1]
    processors = LogitsProcessorList([
        RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)),
        TemperatureLogitsWarper(float(sampling.temperature)),
        TopKLogitsWarper(sampling.top_k or vocab_size),
        TopPLogitsWarper(sampling.top_p),
        MinPLogitsWarper(sampling.min_p),
    ])  # fmt: skip
    scores: torch.Tensor = processors(torch.tensor([token_ids]), logits)
    return scores.softmax(-1)
