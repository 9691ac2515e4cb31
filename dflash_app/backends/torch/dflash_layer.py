"""One layer of the DFlash drafter: attention over context and block, then a gated MLP."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from dflash_app.backends.torch.rotary import Rotation, rotate
from dflash_app.drafters.config import DFlashConfig

AttentionKind = Literal["sdpa", "eager"]
LayerKV: TypeAlias = tuple[Tensor, Tensor]
"""Keys (rotated) and values, [batch, kv heads, T, head_dim]."""
ContextKV: TypeAlias = Sequence[LayerKV]
"""One `LayerKV` per drafter layer."""


class DFlashLayer(nn.Module):
    """Attention over context and block, then a gated MLP; pre-norm, residual."""

    def __init__(self, config: DFlashConfig, attention: AttentionKind) -> None:
        super().__init__()
        self.self_attn = DFlashAttention(config, attention)
        self.mlp = DFlashMLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self,
        hidden: Tensor,
        rotation: Rotation,
        context: LayerKV,
        mask: Tensor | None,
        num_blocks: int = 1,
    ) -> Tensor:
        """[b, Q, hidden] -> [b, Q, hidden].

        Args:
            hidden: [b, Q, hidden].
            rotation: of the Q slots.
            context: keys and values of the context.
            mask: see `DFlashAttention`; it alone tells blocks apart here.
            num_blocks: how many blocks the Q slots are, for layers that mix neighbours.
        """
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
