"""Which drafts stand, and the target's own next token."""

import secrets
from collections.abc import Sequence

import mlx.core as mx

from dflash_app.request import SamplingParams

MIN_TEMPERATURE = 1e-5
"""Temperatures below act as this one: float32 could not divide by them."""


class RandomState:
    """A request's own random numbers: MLX's functional keys, split for every draw.

    Args:
        seed: in [0, 2**63); None draws one.
    """

    def __init__(self, seed: int | None) -> None:
        self._key = mx.random.key(secrets.randbits(63) if seed is None else seed)

    def next_key(self) -> mx.array:
        """A key that no draw used before."""
        self._key, key = mx.random.split(self._key)
        return key


def greedy_accept(draft_ids: Sequence[int], target_ids: Sequence[int]) -> tuple[int, int]:
    """Accept the longest drafted prefix that greedy target decoding would emit.

    On the host: it has to read the drafts anyhow, and a handful of comparisons there costs less
    than describing them to the device.

    Args:
        draft_ids: K drafted tokens after the anchor; K = 0 is plain decoding.
        target_ids: K + 1, the target's own choice after the anchor and after each draft.

    Returns:
        (num_accepted, bonus_id): accepted drafts in [0, K], bonus excluded, and the target's own
        next token.

    Raises:
        ValueError: the lengths do not differ by exactly one.

    Source: Leviathan et al., arXiv:2211.17192, algorithm 1, at temperature 0.
    """
    _check_lengths(len(draft_ids), len(target_ids))
    pairs = enumerate(zip(draft_ids, target_ids, strict=False))
    num_accepted = next((index for index, (a, b) in pairs if a != b), len(draft_ids))
    return num_accepted, target_ids[num_accepted]


def rejection_accept(
    draft_ids: mx.array, draft_probs: mx.array, target_probs: mx.array, random: RandomState
) -> tuple[mx.array, mx.array]:
    """Accept drafts so that the output is distributed exactly as the target's own.

    Draft x stands with probability min(1, p(x) / q(x)); the first that falls is replaced by a draw
    from the residual (p - q)+. This is exact for any q from which the drafts were really drawn.

    Args:
        draft_ids: [K] int32, drawn from `draft_probs`; K >= 1.
        draft_probs: [K, V] float32, q.
        target_probs: [K + 1, V] float32, p at the anchor and at each draft.
        random: the request's random state.

    Returns:
        (num_accepted, bonus_id): as in `greedy_accept`, int32 scalars on the device, not evaluated.

    Raises:
        ValueError: the lengths do not differ by exactly one.

    Source: Leviathan et al., arXiv:2211.17192, algorithm 1; Chen et al., arXiv:2302.01318.
    """
    num_draft = draft_ids.shape[0]
    _check_lengths(num_draft, target_probs.shape[0])
    p = mx.take_along_axis(target_probs[:-1], draft_ids[:, None], axis=-1)[:, 0]
    q = mx.take_along_axis(draft_probs, draft_ids[:, None], axis=-1)[:, 0]
    u = mx.random.uniform(shape=q.shape, key=random.next_key())
    num_accepted = _length_of_true_prefix(u * q < p)
    target_row = mx.take(target_probs, num_accepted, axis=0)
    # Where every draft stands there is no q to subtract: the bonus comes from p itself.
    draft_row = mx.take(draft_probs, mx.minimum(num_accepted, num_draft - 1), axis=0)
    draft_row = draft_row * (num_accepted < num_draft)
    residual = mx.maximum(target_row - draft_row, 0)
    # Rounding can leave no mass at all where p and q are equal.
    residual = mx.where(residual.sum() > 0, residual, target_row)
    return num_accepted, draw(residual[None], random)[0]


def penalise_repetition(logits: mx.array, history: mx.array, penalty: float) -> mx.array:
    """Make tokens that came before less likely (or likelier, below 1), each once.

    Row i follows history[L - N + i] and knows the history up to there, so that a draft is judged
    under the drafts before it and never under itself or those after it.

    Args:
        logits: [N, V] float, raw: the sign of a logit decides how it is changed.
        history: [L] int32, L >= N, every token before the last row's prediction.
        penalty: above 0.

    Returns:
        [N, V] float32.

    Source: Keskar et al., arXiv:1909.05858, section 4.1, with the rule for negative logits that
        transformers' RepetitionPenaltyLogitsProcessor has.
    """
    num_rows, vocab_size = logits.shape
    # One column more takes the ids beyond the head, which some embeddings have.
    history = mx.minimum(history, vocab_size)
    before, block = history[: len(history) - num_rows], history[len(history) - num_rows :]
    seen_before = mx.zeros(vocab_size + 1, dtype=mx.bool_)
    seen_before[before] = True
    seen = mx.broadcast_to(seen_before, (num_rows, vocab_size + 1))
    # In the upper triangle each row repeats the block's first token, which all rows have seen.
    past = mx.tri(num_rows, dtype=mx.bool_)
    columns = mx.where(past, block, block[:1])
    seen = mx.put_along_axis(seen, columns, mx.ones_like(past), axis=-1)
    scores = logits.astype(mx.float32)
    penalised = mx.where(scores < 0, scores * penalty, scores / penalty)
    return mx.where(seen[:, :vocab_size], penalised, scores)


def sampling_probs(logits: mx.array, sampling: SamplingParams) -> mx.array:
    """Temperature, then top-k, then top-p, then min-p: the order of transformers' generate.

    Args:
        logits: [N, V] float, the repetition penalty already in them.
        sampling: temperature above 0.

    Returns:
        [N, V] float32, rows sum to 1.
    """
    scores = logits.astype(mx.float32)
    scores = scores - scores.max(axis=-1, keepdims=True)
    scores = scores / max(sampling.temperature, MIN_TEMPERATURE)
    if 0 < sampling.top_k < scores.shape[-1]:
        indices = mx.argpartition(-scores, sampling.top_k - 1, axis=-1)[..., : sampling.top_k]
        kept = mx.softmax(mx.take_along_axis(scores, indices, axis=-1), axis=-1)
        return mx.put_along_axis(mx.zeros_like(scores), indices, _cut(kept, sampling), axis=-1)
    return _cut(mx.softmax(scores, axis=-1), sampling)


def draw(probs: mx.array, random: RandomState) -> mx.array:
    """Draw one token a row.

    Args:
        probs: [N, V] float32, not negative, some mass in every row; rows need not sum to 1.
        random: the request's random state.

    Returns:
        [N] int32.
    """
    return mx.random.categorical(mx.log(probs), key=random.next_key()).astype(mx.int32)


def _cut(probs: mx.array, sampling: SamplingParams) -> mx.array:
    probs = _nucleus(probs, sampling.top_p)
    if sampling.min_p == 0.0:
        return probs
    kept = probs * (probs >= sampling.min_p * probs.max(axis=-1, keepdims=True))
    return kept / kept.sum(axis=-1, keepdims=True)


def _nucleus(probs: mx.array, top_p: float) -> mx.array:
    """Keep the likeliest tokens until their mass reaches `top_p`, the one that crosses included."""
    if top_p >= 1.0:
        return probs
    order = mx.argsort(-probs, axis=-1)
    ordered = mx.take_along_axis(probs, order, axis=-1)
    kept = ordered * (ordered.cumsum(axis=-1) - ordered < top_p)
    kept = kept / kept.sum(axis=-1, keepdims=True)
    return mx.put_along_axis(mx.zeros_like(probs), order, kept, axis=-1)


def _length_of_true_prefix(matches: mx.array) -> mx.array:
    return matches.astype(mx.int32).cumprod(axis=0).sum().astype(mx.int32)


def _check_lengths(num_draft: int, num_rows: int) -> None:
    if num_rows != num_draft + 1:
        raise ValueError(f"{num_draft} drafts need {num_draft + 1} target rows, not {num_rows}")
