"""The DFlash drafter: tensors named as in z-lab's checkpoints, so a state dict is a checkpoint.

A block is [anchor embedding, mask embedding x (block_size - 1)]; every layer sees the target's
tapped hidden states as extra keys and values in front of the block's own. The drafter borrows the
target's embedding and head, unless its checkpoint brings its own.

Source: Chen et al., arXiv:2602.06036; checkpoint layout of github.com/z-lab/dflash (MIT).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dflash_app.backends.torch.context import ContextCache
from dflash_app.backends.torch.dflash_layer import AttentionKind, ContextKV, DFlashLayer, LayerKV
from dflash_app.backends.torch.families import slow_path
from dflash_app.backends.torch.layout import stored_bytes
from dflash_app.backends.torch.rotary import RotaryEmbedding, Rotation
from dflash_app.drafters.config import AttentionRule, DFlashConfig

__all__ = ["AttentionRule", "ContextKV", "DFlashConfig", "DFlashDrafter", "Proposal", "Sampler"]

Sampler: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Scores [N, C] float32 -> their probabilities [N, C] float32, and what was drawn, [N] int64."""


class Proposal(NamedTuple):
    """Drafts that are still on the device.

    Attributes:
        token_ids: [K] int64.
        probs: [K, V] float32, what they were drawn from; None where greedy.
        confidences: [K] float32, the drafter's probability of each; None in AR.
    """

    token_ids: Tensor
    probs: Tensor | None = None
    confidences: Tensor | None = None


class DFlashDrafter(nn.Module):
    """Drafts a block in one forward from the target's tapped hidden states.

    Args:
        config: shape and rules.
        attention: "sdpa" for decoding; "eager" (plain matmuls) trains faster on CPU.

    Attributes:
        slow_reason: why it is not on the fast path, in a few words; None where nobody asked.
    """

    embed_tokens: nn.Embedding
    lm_head: nn.Linear
    d2t: Tensor

    def __init__(self, config: DFlashConfig, attention: AttentionKind = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.attention = attention
        self.slow_reason: str | None = None
        num_taps, size, eps = len(config.target_layer_ids), config.hidden_size, config.rms_norm_eps
        self.fc = nn.Linear(num_taps * size, size, bias=False)
        self.hidden_norm = nn.RMSNorm(size, eps=eps)
        self.layers = nn.ModuleList(self._new_layer() for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(size, eps=eps)
        self.rotary = RotaryEmbedding(config)
        if config.own_embedding:
            self.embed_tokens = nn.Embedding(config.known_vocab_size, size)
        if config.own_head:
            num_rows = config.draft_vocab_size or config.known_vocab_size
            self.lm_head = nn.Linear(size, num_rows, bias=False)
        if config.draft_vocab_size is not None:
            # Row i of the head is the token i + d2t[i].
            self.register_buffer("d2t", torch.zeros(config.draft_vocab_size, dtype=torch.int64))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    def forward(
        self,
        block_embeddings: Tensor,
        tapped: Tensor,
        context_positions: Tensor,
        block_positions: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Run any number of blocks at once against one context; what a trainer calls.

        Args:
            block_embeddings: [b, Q, hidden], N blocks of `config.num_slots` slots one after the
                other (or one block of any width); from `embed`.
            tapped: [b, T, taps * hidden], the tapped states of the context.
            context_positions: [T] (or [b, T]) int64, positions of the context.
            block_positions: [Q] (or [b, Q]) int64, positions of the slots.
            attention_mask: broadcastable to [b, 1, Q, T + Q], bool (True = visible) or additive;
                context keys first. None shows everything, so several blocks need one. Each layer's
                own causality and window are applied on top, by position.

        Returns:
            [b, Q, hidden], normed: `logits` turns it into logits; slot 0 of each is the anchor.
        """
        context = self.project_context(tapped, context_positions)
        masks = self._masks(block_positions, context_positions, attention_mask)
        num_blocks = max(1, block_embeddings.shape[1] // self.config.num_slots)
        rotation = self.rotary(block_positions)
        return self._run_layers(block_embeddings, rotation, context, masks, num_blocks)

    @property
    def path(self) -> str:
        """How it drafts and why not faster."""
        return slow_path(self.slow_reason)

    @property
    def startup_s(self) -> float:
        """Seconds spent on recording steps; here none are recorded."""
        return 0.0

    def memory_bytes(self) -> int:
        """Bytes held in weights."""
        return stored_bytes(self)

    def new_context(self) -> ContextCache:
        """An empty context for one request."""
        return ContextCache(self)

    def project_context(self, tapped: Tensor, positions: Tensor) -> list[LayerKV]:
        """Turn tapped states into every layer's keys and values, once per committed token.

        Args:
            tapped: [b, T, taps * hidden].
            positions: [T] int64, the tokens' own positions.

        Returns:
            Per layer (keys, values), each [b, kv heads, T, head_dim], keys already rotated.
        """
        hidden = self.hidden_norm(self.fc(tapped))
        rotation = self.rotary(positions)
        return [layer.self_attn.project_kv(hidden, rotation) for layer in self._typed_layers]

    def draft(self, block_embeddings: Tensor, context: ContextKV, position: int) -> Tensor:
        """Run one block after a context of all positions below `position`.

        Args:
            block_embeddings: [1, B, hidden], anchor first.
            context: `project_context` of positions 0 .. position - 1.
            position: position of the anchor.

        Returns:
            [1, B - 1, hidden], normed: the states that hold the drafts, in order.
        """
        if self.config.drafts_from_anchor:
            # Slot k holds draft k + 1: the last slot would hold one too many.
            block_embeddings = block_embeddings[:, :-1]
        device = block_embeddings.device
        width = block_embeddings.shape[1]
        positions = torch.arange(position, position + width, device=device)
        seen: list[LayerKV] = []
        masks: list[Tensor | None] = []
        for rule, (keys, values) in zip(self.config.attention_rules, context, strict=True):
            # The anchor reaches window - 1 tokens back, later slots less far.
            start = 0 if rule.window is None else max(0, position - rule.window + 1)
            seen.append((keys[:, :, start:], values[:, :, start:]))
            near = rule.window is None or position - start + width <= rule.window
            if near and not rule.causal:
                masks.append(None)
            else:
                key_positions = torch.arange(start, position + width, device=device)
                masks.append(self._mask(rule, positions, key_positions, None))
        hidden = self._run_layers(block_embeddings, self.rotary(positions), seen, masks)
        return hidden if self.config.drafts_from_anchor else hidden[:, 1:]

    def propose(
        self,
        hidden: Tensor,
        anchor_id: Tensor,
        head: Callable[[Tensor], Tensor],
        sampler: Sampler | None,
    ) -> Proposal:
        """Turn states into drafted tokens, every slot by itself; synchronises nothing.

        Args:
            hidden: [K, hidden], the first K states of `draft`.
            anchor_id: [1] int64; the first generation does not look at it.
            head: the target's `lm_head`.
            sampler: draws by the request's rules and random state; None is greedy.
        """
        del anchor_id
        logits = self.logits(hidden, head).float()
        if sampler is None:
            best, token_ids = logits.max(dim=-1)
            return Proposal(token_ids, None, (best - logits.logsumexp(dim=-1)).exp())
        probs, token_ids = sampler(logits)
        return Proposal(token_ids, probs, probs.gather(-1, token_ids[:, None])[:, 0])

    def embed(self, token_ids: Tensor, embedding: Tensor) -> Tensor:
        """Rows of the embedding, times `input_embedding_scale` (not the target's own).

        Args:
            token_ids: [...] int64.
            embedding: [vocab, hidden], the target's embedding weight; a drafter's own comes first.
        """
        if self.config.own_embedding:
            embedding = self.embed_tokens.weight
        embedded = F.embedding(token_ids, embedding)
        scale = self.config.input_embedding_scale
        return embedded if scale == 1.0 else embedded * scale

    def logits(self, hidden: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits of the slots.

        Args:
            hidden: [..., hidden] from `forward` or `draft`.
            head: the target's `lm_head`; a drafter's own comes first.

        Returns:
            [..., vocab] float; -inf for tokens that a smaller head does not know.
        """
        logits = self.lm_head(hidden) if self.config.own_head else head(hidden)
        if self.config.output_multiplier != 1.0:
            logits = logits * self.config.output_multiplier
        cap = self.config.final_logit_softcapping
        if cap is not None:
            logits = torch.tanh(logits / cap) * cap
        if self.config.draft_vocab_size is None:
            return logits
        token_ids = torch.arange(logits.shape[-1], device=logits.device) + self.d2t
        everything = logits.new_full(
            (*logits.shape[:-1], self.config.known_vocab_size), float("-inf")
        )
        return everything.index_copy(-1, token_ids, logits)

    def _new_layer(self) -> DFlashLayer:
        return DFlashLayer(self.config, self.attention)

    @property
    def _typed_layers(self) -> list["DFlashLayer"]:
        return [layer for layer in self.layers if isinstance(layer, DFlashLayer)]

    def _run_layers(
        self,
        hidden: Tensor,
        rotation: Rotation,
        context: ContextKV,
        masks: Sequence[Tensor | None],
        num_blocks: int = 1,
    ) -> Tensor:
        for layer, layer_context, mask in zip(self.layers, context, masks, strict=True):
            hidden = layer(hidden, rotation, layer_context, mask, num_blocks)
        normed: Tensor = self.norm(hidden)
        return normed

    def _masks(
        self, block_positions: Tensor, context_positions: Tensor, given: Tensor | None
    ) -> list[Tensor | None]:
        """One mask per layer, made once per distinct rule."""
        key_positions = torch.cat([context_positions, block_positions], dim=-1)
        made: dict[AttentionRule, Tensor | None] = {}
        for rule in self.config.attention_rules:
            if rule not in made:
                made[rule] = self._mask(rule, block_positions, key_positions, given)
        return [made[rule] for rule in self.config.attention_rules]

    def _mask(
        self, rule: AttentionRule, queries: Tensor, keys: Tensor, given: Tensor | None
    ) -> Tensor | None:
        """The given mask and the layer's rule as [b, 1, G * Q, K], additive; None shows all."""
        if rule.unrestricted and given is None:
            return None
        shape = (queries.shape[-1], keys.shape[-1])
        dtype = self.norm.weight.dtype
        mask = torch.zeros(1, 1, *shape, dtype=dtype, device=queries.device)
        if given is not None and given.dtype == torch.bool:
            mask = mask.masked_fill(~given, float("-inf"))
        elif given is not None:
            mask = mask + given.to(dtype)
        if not rule.unrestricted:
            visible = _visible(rule, queries, keys).unsqueeze(-3)
            mask = mask.masked_fill(~visible, float("-inf"))
        groups = self.config.num_attention_heads // self.config.num_key_value_heads
        return mask.repeat(1, 1, groups, 1)


def _visible(rule: AttentionRule, queries: Tensor, keys: Tensor) -> Tensor:
    """[..., Q] and [..., K] positions -> [..., Q, K] bool."""
    distance = queries[..., :, None] - keys[..., None, :]
    visible = torch.ones_like(distance, dtype=torch.bool)
    if rule.causal:
        visible = visible & (distance >= 0)
    if rule.window is not None:
        visible = visible & (distance.abs() < rule.window)
    return visible
