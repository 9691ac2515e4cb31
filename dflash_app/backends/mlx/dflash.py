"""The DFlash drafter in MLX: tensors named as in z-lab's checkpoints and in the torch backend.

A block is [anchor embedding, mask embedding x (block_size - 1)]; every layer sees the target's
tapped hidden states as extra keys and values in front of the block's own. The drafter borrows the
target's embedding and head, unless its checkpoint brings its own.

Source: Chen et al., arXiv:2602.06036; checkpoint layout of github.com/z-lab/dflash (MIT).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import mlx.core as mx
from mlx import nn

from dflash_app.backends.mlx.context import ContextCache, LayerKV
from dflash_app.backends.mlx.dflash_layer import DFlashLayer
from dflash_app.drafters.config import DFlashConfig

Rows: TypeAlias = Callable[[mx.array], mx.array]
"""Token ids -> embedding rows, or states -> logits: the target's embedding and its head."""
Sampler: TypeAlias = Callable[[mx.array], tuple[mx.array, mx.array]]
"""Scores [N, C] float32 -> their probabilities [N, C] float32, and what was drawn, [N] int32."""


class Proposal(NamedTuple):
    """Drafts that are still on the device.

    Attributes:
        token_ids: [K] int32.
        probs: [K, V] float32, what they were drawn from; None where greedy.
        confidences: [K] float32, the drafter's probability of each; None in AR.
    """

    token_ids: mx.array
    probs: mx.array | None = None
    confidences: mx.array | None = None


class DFlashDrafter(nn.Module):
    """Drafts a block in one forward from the target's tapped hidden states.

    Args:
        config: shape and rules.
    """

    def __init__(self, config: DFlashConfig) -> None:
        super().__init__()
        self.config = config
        num_taps, size, eps = len(config.target_layer_ids), config.hidden_size, config.rms_norm_eps
        self.fc = nn.Linear(num_taps * size, size, bias=False)
        self.hidden_norm = nn.RMSNorm(size, eps=eps)
        self.layers = [self._new_layer(index) for index in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(size, eps=eps)
        if config.own_embedding:
            self.embed_tokens = nn.Embedding(config.known_vocab_size, size)
        if config.own_head:
            num_rows = config.draft_vocab_size or config.known_vocab_size
            self.lm_head = nn.Linear(size, num_rows, bias=False)
        if config.draft_vocab_size is not None:
            # Row i of the head is the token i + d2t[i].
            self.d2t = mx.zeros(config.draft_vocab_size, dtype=mx.int32)

    def project_context(self, tapped: mx.array, position: int) -> list[LayerKV]:
        """Turn tapped states into every layer's keys and values, once per committed token.

        Args:
            tapped: [1, T, taps * hidden].
            position: of the first of these tokens.

        Returns:
            Per layer (keys, values), each [1, kv heads, T, head_dim], keys already rotated.
        """
        hidden = self.hidden_norm(self.fc(tapped))
        return [layer.self_attn.project_kv(hidden, position) for layer in self.layers]

    def draft(self, block_embeddings: mx.array, context: ContextCache, position: int) -> mx.array:
        """Run one block after a context of all positions below `position`.

        Args:
            block_embeddings: [1, B, hidden], anchor first.
            context: holds `project_context` of positions 0 .. position - 1.
            position: position of the anchor.

        Returns:
            [1, B - 1, hidden], normed: the states that hold the drafts, in order.
        """
        hidden = block_embeddings
        if self.config.drafts_from_anchor:
            # Slot k holds draft k + 1: the last slot would hold one too many.
            hidden = hidden[:, :-1]
        for layer in self.layers:
            hidden = layer(hidden, context, position)
        normed: mx.array = self.norm(hidden)
        return normed if self.config.drafts_from_anchor else normed[:, 1:]

    def propose(
        self, hidden: mx.array, anchor_id: mx.array, head: Rows, sampler: Sampler | None
    ) -> Proposal:
        """Turn states into drafted tokens, every slot by itself; evaluates nothing.

        Args:
            hidden: [K, hidden], the first K states of `draft`.
            anchor_id: [1] int32; the first generation does not look at it.
            head: the target's.
            sampler: draws by the request's rules and random state; None is greedy.
        """
        del anchor_id
        logits = self.logits(hidden, head).astype(mx.float32)
        if sampler is None:
            token_ids = logits.argmax(axis=-1).astype(mx.int32)
            return Proposal(
                token_ids, None, mx.exp(logits.max(axis=-1) - mx.logsumexp(logits, axis=-1))
            )
        probs, token_ids = sampler(logits)
        confidences = mx.take_along_axis(probs, token_ids[:, None], axis=-1)[:, 0]
        return Proposal(token_ids, probs, confidences)

    def embed(self, token_ids: mx.array, embedding: Rows) -> mx.array:
        """Rows of the embedding, times `input_embedding_scale` (not the target's own).

        Args:
            token_ids: [...] int32.
            embedding: the target's; a drafter's own comes first.
        """
        own: Rows = self.embed_tokens if self.config.own_embedding else embedding
        embedded, scale = own(token_ids), self.config.input_embedding_scale
        return embedded if scale == 1.0 else embedded * scale

    def logits(self, hidden: mx.array, head: Rows) -> mx.array:
        """Logits of the slots.

        Args:
            hidden: [..., hidden] from `draft`.
            head: the target's; a drafter's own comes first.

        Returns:
            [..., vocab] float; -inf for tokens that a smaller head does not know.
        """
        own: Rows = self.lm_head if self.config.own_head else head
        logits = own(hidden)
        if self.config.output_multiplier != 1.0:
            logits = logits * self.config.output_multiplier
        cap = self.config.final_logit_softcapping
        if cap is not None:
            logits = mx.tanh(logits / cap) * cap
        if self.config.draft_vocab_size is None:
            return logits
        token_ids = mx.broadcast_to(mx.arange(logits.shape[-1]) + self.d2t, logits.shape)
        everything = mx.full(
            (*logits.shape[:-1], self.config.known_vocab_size), float("-inf"), logits.dtype
        )
        return mx.put_along_axis(everything, token_ids, logits, axis=-1)

    def _new_layer(self, index: int) -> DFlashLayer:
        return DFlashLayer(self.config, index)
