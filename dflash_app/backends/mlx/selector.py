"""DFlash 2's candidate selector: a walk from the anchor through each slot's best candidates.

Source: "DFlash 2" of z-lab (github.com/z-lab/dflash, MIT); tensor names as in its checkpoints.
"""

from typing import NamedTuple

import mlx.core as mx
from mlx import nn


class Candidates(NamedTuple):
    """Scored continuations of a block with K slots and C candidates each.

    Attributes:
        token_ids: [K, C] int32, the likeliest first.
        scores: [K, C, C] float32: row i of slot k scores the slot's candidates after candidate i
            of slot k - 1. The rows of slot 0 are alike: they all follow the anchor.
    """

    token_ids: mx.array
    scores: mx.array


class CandidateSelector(nn.Module):
    """Scores pairs of neighbouring candidates.

    Args:
        hidden_size: of the drafter.
        vocab_size: rows of the codebooks.
        rank: of the codebooks.
        top_k: candidates per slot.
    """

    def __init__(self, hidden_size: int, vocab_size: int, rank: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.predecessor_codebook = mx.zeros((vocab_size, rank))
        self.successor_codebook = mx.zeros((vocab_size, rank))
        self.hidden_projection = nn.Linear(hidden_size, rank, bias=False)

    def __call__(self, hidden: mx.array, logits: mx.array, anchor_id: mx.array) -> Candidates:
        """Score every candidate after every possible predecessor.

        Args:
            hidden: [K, hidden], normed states of the slots.
            logits: [K, V] float32.
            anchor_id: [1] int32.
        """
        token_ids = _best(logits, min(self.top_k, logits.shape[-1]))
        own_scores = mx.take_along_axis(logits, token_ids, axis=-1)
        first = mx.broadcast_to(anchor_id[:, None], (1, token_ids.shape[1]))
        before = mx.concatenate([first, token_ids[:-1]])
        context = self.predecessor_codebook[before] * self.hidden_projection(hidden)[:, None]
        pairs = context @ self.successor_codebook[token_ids].swapaxes(-1, -2)
        return Candidates(token_ids, own_scores[:, None] + pairs.astype(mx.float32))


def walk(choices: mx.array) -> tuple[mx.array, mx.array]:
    """Follow one choice per slot from the anchor to the end of the block.

    Args:
        choices: [K, C] int32, K >= 1: which candidate of slot k follows candidate i of slot k - 1.

    Returns:
        (came_from, chosen): [K] int32 each: the row that was read at every slot, and what it said.
    """
    at = mx.zeros((1,), dtype=mx.int32)
    came_from, chosen = [], []
    for slot in range(choices.shape[0]):
        came_from.append(at)
        at = mx.take(choices[slot], at)
        chosen.append(at)
    return mx.concatenate(came_from), mx.concatenate(chosen)


def _best(logits: mx.array, count: int) -> mx.array:
    """[K, V] -> [K, count] int32, the largest first."""
    indices = mx.argpartition(-logits, count - 1, axis=-1)[..., :count]
    order = mx.argsort(-mx.take_along_axis(logits, indices, axis=-1), axis=-1)
    return mx.take_along_axis(indices, order, axis=-1).astype(mx.int32)
