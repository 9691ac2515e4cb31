"""What a forward needs beside what is held: states, masks, scores, and what CUDA graphs keep."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dflash_app.hub.weights import Weight, tapped_size

PREFILL_CHUNK = 512
"""As `engine.speculative.PREFILL_CHUNK`; a test holds them equal."""
GRAPH_BUCKETS = 3
"""Lengths that buffers hold steps for: two by which they are filled, and one of a shorter turn."""
GRAPH_WORKSPACE_BYTES = 32 << 20
"""Of cuBLAS on a Hopper GPU, for the stream on which a model's graphs are captured."""

_SCORES_WRITTEN = ("gpt_oss", "deepseek_v4")
"""Families whose attention writes its scores down, heads x queries x keys (sinks)."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a forward needs for a while.

    Attributes:
        token_bytes: of states, for each token read at once.
        pair_bytes: of masks and scores, for each token read and each that it sees.
        logits_bytes: of the scores over the vocabulary, of a whole block.
    """

    token_bytes: int
    pair_bytes: int
    logits_bytes: int

    def num_bytes(self, length: int) -> int:
        """Bytes while the last chunk of a prompt of so many tokens is read."""
        width = min(PREFILL_CHUNK, length)
        return width * (self.token_bytes + length * self.pair_bytes) + self.logits_bytes


def step_of(
    text: Mapping[str, Any],
    drafting: Iterable[Weight],
    width: int,
    item_bytes: int,
    *,
    makes_masks: bool,
    writes_scores: bool = False,
) -> Step:
    """What a step of a pair needs.

    Args:
        text: from `model_config.text_config`, of the target.
        drafting: the drafter's weights.
        width: tokens of one verification.
        item_bytes: of one number.
        makes_masks: as the fast path does, of distances in int64.
        writes_scores: heads x queries x keys, once; families of `_SCORES_WRITTEN` do so twice.
    """
    hidden, num_heads = int(text["hidden_size"]), int(text["num_attention_heads"])
    num_chosen = int(text.get("num_experts_per_tok") or text.get("top_k_experts") or 0)
    experts = num_chosen * int(
        text.get("moe_intermediate_size") or text.get("intermediate_size", 0)
    )
    inner = max(int(text.get("intermediate_size") or 0), experts)
    states = 6 * hidden + 3 * num_heads * int(text["head_dim"]) + 3 * inner
    states += 2 * tapped_size(drafting)
    scores = num_heads * item_bytes if writes_scores else 0
    if text["family"] in _SCORES_WRITTEN:
        scores = num_heads * (item_bytes + 4)
    return Step(
        token_bytes=states * item_bytes,
        pair_bytes=item_bytes + (9 if makes_masks else 1) + scores,
        logits_bytes=width * int(text.get("vocab_size") or 0) * (item_bytes + 4),
    )


def graphs_bytes(step: Step, width: int, row_bytes: int, *, target: bool, drafter: bool) -> int:
    """What steps put out, which each of them keeps, and what all of a model make on the way.

    Widths are powers of two up to the block's, so their rows are less than twice its own.

    Args:
        step: of the pair.
        width: tokens of one verification.
        row_bytes: of logits and tapped states of one token.
        target: whether its steps are CUDA graphs.
        drafter: the same.
    """
    made = width * step.token_bytes + step.logits_bytes + GRAPH_WORKSPACE_BYTES
    kept = GRAPH_BUCKETS * 2 * width * row_bytes if target else 0
    return (target + drafter) * made + kept
