"""Which drafts stand, and the target's own next token; all on the device, nothing synchronised."""

import torch
from torch import Tensor

from dflash_app.request import SamplingParams

MIN_TEMPERATURE = 1e-5
"""Temperatures below act as this one: float32 could not divide by them."""


def greedy_accept(draft_ids: Tensor, target_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Accept the longest drafted prefix that greedy target decoding would emit.

    Args:
        draft_ids: [K] int64, drafted tokens after the anchor; K = 0 is plain decoding.
        target_logits: [K + 1, V] float, target logits at the anchor and at each draft.

    Returns:
        (num_accepted, bonus_id): int64 scalars on the device; accepted drafts in [0, K], bonus
        excluded, and the target's own next token.

    Raises:
        ValueError: the lengths do not differ by exactly one.

    Source: Leviathan et al., arXiv:2211.17192, algorithm 1, at temperature 0.
    """
    _check_lengths(draft_ids, target_logits)
    target_ids = target_logits.argmax(dim=-1)
    num_accepted = _length_of_true_prefix(draft_ids == target_ids[:-1])
    return num_accepted, target_ids.gather(0, num_accepted[None])[0]


def rejection_accept(
    draft_ids: Tensor,
    draft_probs: Tensor,
    target_probs: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Accept drafts so that the output is distributed exactly as the target's own.

    Draft x stands with probability min(1, p(x) / q(x)); the first that falls is replaced by a draw
    from the residual (p - q)+. This is exact for any q from which the drafts were really drawn, so
    the drafter's slots may be independent of each other, as DFlash's are, and may be sharpened by
    the same temperature, top-k and top-p as the target (z-lab does so too: it raises acceptance).

    Args:
        draft_ids: [K] int64, drawn from `draft_probs`; K >= 1.
        draft_probs: [K, V] float32, q.
        target_probs: [K + 1, V] float32, p at the anchor and at each draft.
        generator: the request's random state.

    Returns:
        (num_accepted, bonus_id): int64 scalars on the device, as in `greedy_accept`.

    Raises:
        ValueError: the lengths do not differ by exactly one.

    Source: Leviathan et al., arXiv:2211.17192, algorithm 1; Chen et al., arXiv:2302.01318.
    """
    _check_lengths(draft_ids, target_probs)
    num_draft = draft_ids.shape[0]
    p = target_probs[:-1].gather(-1, draft_ids[:, None])[:, 0]
    q = draft_probs.gather(-1, draft_ids[:, None])[:, 0]
    u = torch.rand(q.shape, generator=generator, device=q.device)
    num_accepted = _length_of_true_prefix(u * q < p)
    row = num_accepted[None]
    target_row = target_probs.index_select(0, row)
    # Where every draft stands there is no q to subtract: the bonus comes from p itself.
    draft_row = draft_probs.index_select(0, row.clamp(max=num_draft - 1)) * (row < num_draft)
    residual = (target_row - draft_row).clamp_min(0)
    # Rounding can leave no mass at all where p and q are equal.
    residual = torch.where(residual.sum() > 0, residual, target_row)
    return num_accepted, draw(residual, generator)[0]


def penalise_repetition(logits: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Make tokens that came before less likely (or likelier, below 1), each once.

    Row i follows history[L - N + i] and knows the history up to there, so that a draft is judged
    under the drafts before it and never under itself or those after it.

    Args:
        logits: [N, V] float, raw: the sign of a logit decides how it is changed.
        history: [L] int64, L >= N, every token before the last row's prediction.
        penalty: above 0.

    Returns:
        [N, V] float32.

    Source: Keskar et al., arXiv:1909.05858, section 4.1, with the rule for negative logits that
        transformers' RepetitionPenaltyLogitsProcessor has.
    """
    num_rows, vocab_size = logits.shape
    # One column more takes the ids beyond the head, which some embeddings have.
    history = history.clamp(max=vocab_size)
    before, block = history[: len(history) - num_rows], history[len(history) - num_rows :]
    seen = torch.zeros((num_rows, vocab_size + 1), dtype=torch.bool, device=logits.device)
    seen.index_fill_(1, before, True)
    # In the upper triangle each row repeats the block's first token, which all rows have seen.
    past = torch.ones_like(seen[:, :1]).expand(num_rows, num_rows).tril()
    seen.scatter_(-1, torch.where(past, block, block[:1]), True)
    scores = logits.float()
    penalised = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(seen[:, :vocab_size], penalised, scores)


def sampling_probs(logits: Tensor, sampling: SamplingParams) -> Tensor:
    """Temperature, then top-k, then top-p, then min-p: the order of transformers' generate.

    Args:
        logits: [N, V] float, the repetition penalty already in them.
        sampling: temperature above 0.

    Returns:
        [N, V] float32, rows sum to 1.
    """
    scores = logits.float()
    scores = scores - scores.amax(dim=-1, keepdim=True)
    scores = scores / max(sampling.temperature, MIN_TEMPERATURE)
    if 0 < sampling.top_k < scores.shape[-1]:
        top, indices = scores.topk(sampling.top_k, dim=-1)
        return torch.zeros_like(scores).scatter(-1, indices, _cut(top.softmax(dim=-1), sampling))
    return _cut(scores.softmax(dim=-1), sampling)


def draw(probs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one token a row by an exponential race.

    Unlike `torch.multinomial` it never synchronises, and rows need not sum to 1.

    Args:
        probs: [N, V] float32, not negative, some mass in every row.
        generator: the request's random state, on the device of `probs`.

    Returns:
        [N] int64.
    """
    race = torch.empty_like(probs).exponential_(generator=generator)
    # An exponential of exactly 0 would let a token of no mass win (0 / 0).
    race.clamp_min_(torch.finfo(race.dtype).tiny)
    return (probs / race).argmax(dim=-1)


def _cut(probs: Tensor, sampling: SamplingParams) -> Tensor:
    probs = _nucleus(probs, sampling.top_p)
    if sampling.min_p == 0.0:
        return probs
    kept = probs * (probs >= sampling.min_p * probs.amax(dim=-1, keepdim=True))
    return kept / kept.sum(dim=-1, keepdim=True)


def _nucleus(probs: Tensor, top_p: float) -> Tensor:
    """Keep the likeliest tokens until their mass reaches `top_p`, the one that crosses included."""
    if top_p >= 1.0:
        return probs
    ordered, order = probs.sort(dim=-1, descending=True)
    kept = ordered * (ordered.cumsum(dim=-1) - ordered < top_p)
    kept = kept / kept.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probs).scatter(-1, order, kept)


def _length_of_true_prefix(matches: Tensor) -> Tensor:
    return matches.to(torch.int64).cumprod(dim=0).sum()


def _check_lengths(draft_ids: Tensor, target_rows: Tensor) -> None:
    if target_rows.shape[0] != draft_ids.shape[0] + 1:
        raise ValueError(
            f"{draft_ids.shape[0]} drafts need {draft_ids.shape[0] + 1} target rows, "
            f"not {target_rows.shape[0]}"
        )
