"""DFlash 2's candidate selector: a walk from the anchor through each slot's best candidates.

Every slot keeps its top candidates; a low-rank score says how well each follows each candidate of
the slot before. All pairs are scored at once, then one path is read off, slot by slot.

Source: "DFlash 2" of z-lab (github.com/z-lab/dflash, MIT); tensor names as in its checkpoints.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Candidates(NamedTuple):
    """Scored continuations of a block with K slots and C candidates each.

    Attributes:
        token_ids: [K, C] int64.
        scores: [K, C, C] float32: row i of slot k scores the slot's candidates after candidate i
            of slot k - 1. The rows of slot 0 are alike: they all follow the anchor.
    """

    token_ids: Tensor
    scores: Tensor


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
        self.predecessor_codebook = nn.Parameter(torch.empty(vocab_size, rank))
        self.successor_codebook = nn.Parameter(torch.empty(vocab_size, rank))
        self.hidden_projection = nn.Linear(hidden_size, rank, bias=False)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.02)

    def forward(self, hidden: Tensor, logits: Tensor, anchor_id: Tensor) -> Candidates:
        """Score every candidate after every possible predecessor.

        Args:
            hidden: [K, hidden], normed states of the slots.
            logits: [K, V] float32.
            anchor_id: [1] int64.
        """
        own_scores, token_ids = logits.topk(min(self.top_k, logits.shape[-1]), dim=-1)
        before = torch.cat([anchor_id.expand_as(token_ids[:1]), token_ids[:-1]])
        context = self.predecessor_codebook[before] * self.hidden_projection(hidden)[:, None]
        pairs = context @ self.successor_codebook[token_ids].transpose(-1, -2)
        return Candidates(token_ids, own_scores[:, None] + pairs.float())


def walk(choices: Tensor) -> tuple[Tensor, Tensor]:
    """Follow one choice per slot from the anchor to the end of the block.

    Args:
        choices: [K, C] int64, K >= 1: which candidate of slot k follows candidate i of slot k - 1.

    Returns:
        (came_from, chosen): [K] int64 each: the row that was read at every slot, and what it said.
    """
    at = choices.new_zeros(1)
    came_from, chosen = [], []
    for slot in choices:
        came_from.append(at)
        # index_select, because indexing with a scalar tensor would synchronise.
        at = slot.index_select(0, at)
        chosen.append(at)
    return torch.cat(came_from), torch.cat(chosen)
