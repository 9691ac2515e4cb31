"""The DFlash drafter: tensors named as in z-lab's checkpoints, so a state dict is a checkpoint.

A block is [anchor embedding, mask embedding x (block_size - 1)]; every layer sees the target's
tapped hidden states as extra keys and values in front of the block's own. The drafter has no
embedding and no head: it borrows the target's.

Source: Chen et al., arXiv:2602.06036; checkpoint layout of github.com/z-lab/dflash (MIT).
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from dflash_app.backends.torch.dflash_config import AttentionRule, DFlashConfig
from dflash_app.backends.torch.rotary import RotaryEmbedding, Rotation, rotate

__all__ = ["AttentionRule", "ContextKV", "DFlashConfig", "DFlashDrafter"]

AttentionKind = Literal["sdpa", "eager"]
LayerKV: TypeAlias = tuple[Tensor, Tensor]
"""Keys (rotated) and values, [batch, kv heads, T, head_dim]."""
ContextKV: TypeAlias = Sequence[LayerKV]
"""One `LayerKV` per drafter layer."""


class DFlashDrafter(nn.Module):
    """Drafts a block in one forward from the target's tapped hidden states.

    Args:
        config: shape and rules.
        attention: "sdpa" for decoding; "eager" (plain matmuls) trains faster on CPU.
    """

    def __init__(self, config: DFlashConfig, attention: AttentionKind = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.attention = attention
        num_taps, size, eps = len(config.target_layer_ids), config.hidden_size, config.rms_norm_eps
        self.fc = nn.Linear(num_taps * size, size, bias=False)
        self.hidden_norm = nn.RMSNorm(size, eps=eps)
        self.layers = nn.ModuleList(
            DFlashLayer(config, attention) for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(size, eps=eps)
        self.rotary = RotaryEmbedding(config)
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
            block_embeddings: [b, Q, hidden], N blocks of B slots one after the other, Q = N * B;
                from `embed`.
            tapped: [b, T, taps * hidden], the tapped states of the context.
            context_positions: [T] (or [b, T]) int64, positions of the context.
            block_positions: [Q] (or [b, Q]) int64, positions of the slots.
            attention_mask: broadcastable to [b, 1, Q, T + Q], bool (True = visible) or additive;
                context keys first. None shows everything, so several blocks need one. Each layer's
                own causality and window are applied on top, by position.

        Returns:
            [b, Q, hidden], normed: `logits` turns it into logits; slot 0 is the anchor.
        """
        context = self.project_context(tapped, context_positions)
        masks = self._masks(block_positions, context_positions, attention_mask)
        return self._run_layers(block_embeddings, self.rotary(block_positions), context, masks)

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
            [1, B, hidden], normed; slots 1 .. B - 1 hold the drafts.
        """
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
        return self._run_layers(block_embeddings, self.rotary(positions), seen, masks)

    def embed(self, token_ids: Tensor, embedding: Tensor) -> Tensor:
        """Rows of the target's embedding, times `input_embedding_scale` (not the target's own).

        Args:
            token_ids: [...] int64.
            embedding: [vocab, hidden], the target's embedding weight.
        """
        embedded = F.embedding(token_ids, embedding)
        scale = self.config.input_embedding_scale
        return embedded if scale == 1.0 else embedded * scale

    def logits(self, hidden: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits of the slots through the target's head.

        Args:
            hidden: [..., hidden] from `forward` or `draft`.
            head: the target's `lm_head`.

        Returns:
            [..., vocab] float.
        """
        logits = head(hidden)
        if self.config.output_multiplier != 1.0:
            logits = logits * self.config.output_multiplier
        cap = self.config.final_logit_softcapping
        return logits if cap is None else torch.tanh(logits / cap) * cap

    @property
    def _typed_layers(self) -> list["DFlashLayer"]:
        return [layer for layer in self.layers if isinstance(layer, DFlashLayer)]

    def _run_layers(
        self,
        hidden: Tensor,
        rotation: Rotation,
        context: ContextKV,
        masks: Sequence[Tensor | None],
    ) -> Tensor:
        for layer, layer_context, mask in zip(self.layers, context, masks, strict=True):
            hidden = layer(hidden, rotation, layer_context, mask)
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
        dtype = self.fc.weight.dtype
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


class DFlashLayer(nn.Module):
    """Attention over context and block, then a gated MLP; pre-norm, residual."""

    def __init__(self, config: DFlashConfig, attention: AttentionKind) -> None:
        super().__init__()
        self.self_attn = DFlashAttention(config, attention)
        self.mlp = DFlashMLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self, hidden: Tensor, rotation: Rotation, context: LayerKV, mask: Tensor | None
    ) -> Tensor:
        """[b, Q, hidden] -> [b, Q, hidden]."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), rotation, context, mask)
        mixed: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return mixed


class DFlashMLP(nn.Module):
    """down(act(gate(x)) * up(x))."""

    def __init__(self, config: DFlashConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act: Callable[[Tensor], Tensor] = ACT2FN[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        """[b, Q, hidden] -> [b, Q, hidden]."""
        mixed: Tensor = self.down_proj(self.act(self.gate_proj(hidden)) * self.up_proj(hidden))
        return mixed


class DFlashAttention(nn.Module):
    """Grouped-query attention of a block over [context, block]."""

    def __init__(self, config: DFlashConfig, attention: AttentionKind) -> None:
        super().__init__()
        self.attention = attention
        self.head_dim = config.head_dim
        self.num_kv_heads = config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        size, bias = config.hidden_size, config.attention_bias
        query_size = config.num_attention_heads * config.head_dim
        kv_size = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(size, query_size, bias=bias)
        self.k_proj = nn.Linear(size, kv_size, bias=bias)
        self.v_proj = nn.Linear(size, kv_size, bias=bias)
        self.o_proj = nn.Linear(query_size, size, bias=bias)
        self.q_norm = nn.RMSNorm(config.head_dim, eps=config.rms_norm_eps)
        self.k_norm = nn.RMSNorm(config.head_dim, eps=config.rms_norm_eps)

    def project_kv(self, hidden: Tensor, rotation: Rotation) -> LayerKV:
        """[b, T, hidden] -> keys (normed, rotated) and values, [b, kv heads, T, head_dim]."""
        heads = (*hidden.shape[:2], -1, self.head_dim)
        keys = self.k_norm(self.k_proj(hidden).view(heads)).transpose(1, 2)
        values = self.v_proj(hidden).view(heads).transpose(1, 2)
        return rotate(keys, rotation), values

    def forward(
        self, hidden: Tensor, rotation: Rotation, context: LayerKV, mask: Tensor | None
    ) -> Tensor:
        """[b, Q, hidden] -> [b, Q, hidden]; `mask` is additive, [b or 1, 1, G * Q, T + Q]."""
        batch, width = hidden.shape[:2]
        heads = (batch, width, -1, self.head_dim)
        queries = self.q_norm(self.q_proj(hidden).view(heads)).transpose(1, 2)
        queries = rotate(queries, rotation)
        own_keys, own_values = self.project_kv(hidden, rotation)
        keys = torch.cat([context[0], own_keys], dim=2)
        values = torch.cat([context[1], own_values], dim=2)
        # The queries of a group stand one below the other: keys and values are never repeated.
        grouped = queries.reshape(batch, self.num_kv_heads, -1, self.head_dim)
        mixed = self._attend(grouped, keys, values, mask)
        mixed = mixed.reshape(batch, -1, width, self.head_dim).transpose(1, 2)
        projected: Tensor = self.o_proj(mixed.reshape(batch, width, -1))
        return projected

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        if self.attention == "sdpa":
            return F.scaled_dot_product_attention(
                queries, keys, values, attn_mask=mask, scale=self.scaling
            )
        scores = (queries * self.scaling) @ keys.transpose(-1, -2)
        if mask is not None:
            scores = scores + mask
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype) @ values


def _visible(rule: AttentionRule, queries: Tensor, keys: Tensor) -> Tensor:
    """[..., Q] and [..., K] positions -> [..., Q, K] bool."""
    distance = queries[..., :, None] - keys[..., None, :]
    visible = torch.ones_like(distance, dtype=torch.bool)
    if rule.causal:
        visible = visible & (distance >= 0)
    if rule.window is not None:
        visible = visible & (distance.abs() < rule.window)
    return visible
