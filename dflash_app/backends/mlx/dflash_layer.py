"""One layer of the DFlash drafter: attention over context and block, then a gated MLP."""

from collections.abc import Callable

import mlx.core as mx
from mlx import nn

from dflash_app.backends.mlx.context import ContextCache, LayerKV
from dflash_app.backends.mlx.rotary import new_rope
from dflash_app.drafters.attention_rule import AttentionRule
from dflash_app.drafters.config import DFlashConfig
from dflash_app.errors import UnsupportedFormat

_ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "silu": nn.silu,
    "gelu": nn.gelu,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "relu": nn.relu,
}


def activation(name: str) -> Callable[[mx.array], mx.array]:
    """An activation by its name in transformers.

    Raises:
        UnsupportedFormat: MLX has none of that name.
    """
    if name not in _ACTIVATIONS:
        raise UnsupportedFormat(
            f"The drafter's activation {name!r} is not supported on MLX: use the torch backend."
        )
    return _ACTIVATIONS[name]


class DFlashLayer(nn.Module):
    """Attention over context and block, then a gated MLP; pre-norm, residual."""

    def __init__(self, config: DFlashConfig, index: int) -> None:
        super().__init__()
        self.self_attn = DFlashAttention(config, index)
        self.mlp = DFlashMLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, hidden: mx.array, context: ContextCache, position: int) -> mx.array:
        """[1, Q, hidden] -> [1, Q, hidden]; `position` is that of the first slot."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), context, position)
        mixed: mx.array = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return mixed


class DFlashMLP(nn.Module):
    """down(act(gate(x)) * up(x))."""

    def __init__(self, config: DFlashConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act = activation(config.hidden_act)

    def __call__(self, hidden: mx.array) -> mx.array:
        """[1, Q, hidden] -> [1, Q, hidden]."""
        mixed: mx.array = self.down_proj(self.act(self.gate_proj(hidden)) * self.up_proj(hidden))
        return mixed


class DFlashAttention(nn.Module):
    """Grouped-query attention of a block over [context, block]."""

    def __init__(self, config: DFlashConfig, index: int) -> None:
        super().__init__()
        self.index = index
        self.rule: AttentionRule = config.attention_rules[index]
        self.head_dim = config.head_dim
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
        self.rope = new_rope(config)

    def project_kv(self, hidden: mx.array, position: int) -> LayerKV:
        """[1, T, hidden] -> keys (normed, rotated) and values, [1, kv heads, T, head_dim]."""
        keys = self.k_norm(self._heads(self.k_proj(hidden)))
        return self.rope(keys, offset=position), self._heads(self.v_proj(hidden))

    def __call__(self, hidden: mx.array, context: ContextCache, position: int) -> mx.array:
        """[1, Q, hidden] -> [1, Q, hidden]; the context holds all positions below `position`."""
        queries = self.q_norm(self._heads(self.q_proj(hidden)))
        queries = self.rope(queries, offset=position)
        keys, values = context.with_block(self.index, *self.project_kv(hidden, position))
        width = hidden.shape[1]
        # The anchor reaches window - 1 tokens back, later slots less far.
        window = self.rule.window
        start = 0 if window is None else max(0, position - window + 1)
        mixed = mx.fast.scaled_dot_product_attention(
            queries,
            keys[:, :, start:],
            values[:, :, start:],
            scale=self.scaling,
            mask=_mask(self.rule, position, width, start),
        )
        mixed = mixed.transpose(0, 2, 1, 3).reshape(1, width, -1)
        projected: mx.array = self.o_proj(mixed)
        return projected

    def _heads(self, states: mx.array) -> mx.array:
        return states.reshape(*states.shape[:2], -1, self.head_dim).transpose(0, 2, 1, 3)


def _mask(rule: AttentionRule, position: int, width: int, start: int) -> mx.array | None:
    """[Q, K] bool over keys from `start` to the block's end; None shows all."""
    near = rule.window is None or position - start + width <= rule.window
    if near and not rule.causal:
        return None
    queries = mx.arange(position, position + width)[:, None]
    distance = queries - mx.arange(start, position + width)[None]
    visible = distance >= 0 if rule.causal else mx.ones_like(distance).astype(mx.bool_)
    if rule.window is not None:
        visible = visible & (mx.abs(distance) < rule.window)
    return visible
