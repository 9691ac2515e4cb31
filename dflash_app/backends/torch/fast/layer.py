"""A layer as functions, fused: queries, keys and values are one product, gate and up another."""

from math import sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dflash_app.backends.torch.fast.kv import Views
from dflash_app.backends.torch.fast.products import AddTo, Apply, Kernels, fuse
from dflash_app.backends.torch.fast.rope import rotate


class Heads(NamedTuple):
    """Shape of the attention."""

    num_heads: int
    num_kv_heads: int
    head_dim: int


class Layer(NamedTuple):
    """One layer; the bytes are those of its products."""

    heads: Heads
    attention_norm: Apply
    qkv: Apply
    qk_norm: Apply | None
    output: AddTo
    mlp_norm: Apply
    gate_up: Apply
    down: AddTo
    own_bytes: int
    read_bytes: int


def linears_of(module: Any) -> list[Any]:
    """What `build_layer` fuses, whatever its type."""
    attention, mlp = module.self_attn, module.mlp
    return [
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    ]


def build_layer(module: Any, heads: Heads, eps: float, kernels: Kernels) -> Layer:
    """Fuse a layer, which gives its weights away.

    Args:
        module: of transformers' Qwen3 or Llama, or a `DFlashLayer`.
        heads: of its attention.
        eps: of all its norms.
        kernels: what its products may use.
    """
    attention, mlp = module.self_attn, module.mlp
    qk_norm = None
    if getattr(attention, "q_norm", None) is not None:  # Llama has none
        per_head = [
            attention.q_norm.weight.expand(heads.num_heads, -1),
            attention.k_norm.weight.expand(heads.num_kv_heads, -1),
        ]
        qk_norm = rms_norm(torch.cat(per_head), eps)
    products = (
        fuse([attention.q_proj, attention.k_proj, attention.v_proj], kernels),
        fuse([attention.o_proj], kernels),
        fuse([mlp.gate_proj, mlp.up_proj], kernels),
        fuse([mlp.down_proj], kernels),
    )
    qkv, output, gate_up, down = products
    return Layer(
        heads=heads,
        attention_norm=rms_norm(module.input_layernorm.weight, eps),
        qkv=qkv.apply,
        qk_norm=qk_norm,
        output=output.add_to,
        mlp_norm=rms_norm(module.post_attention_layernorm.weight, eps),
        gate_up=gate_up.apply,
        down=down.add_to,
        own_bytes=sum(product.own_bytes for product in products),
        read_bytes=sum(product.read_bytes for product in products),
    )


def run_layer(
    layer: Layer,
    hidden: Tensor,
    rotation: tuple[Tensor, Tensor],
    views: Views,
    mask: Tensor | None,
) -> Tensor:
    """[T, hidden] -> [T, hidden]; writes the tokens' keys and values where they belong.

    Args:
        layer: from `build_layer`.
        hidden: [T, hidden].
        rotation: cos and sin of the T positions, from `RopeTable.rows`.
        views: the layer's part of a `StaticKV`.
        mask: as `attention.attend` takes it.
    """
    num_heads, num_kv_heads, head_dim = layer.heads
    num_rotated = num_heads + num_kv_heads
    qkv = layer.qkv(layer.attention_norm(hidden)).view(hidden.shape[0], -1, head_dim)
    rotated = qkv.narrow(1, 0, num_rotated)
    if layer.qk_norm is not None:
        rotated = layer.qk_norm(rotated)
    rotated = rotate(rotated, *rotation)
    views.write(
        rotated.narrow(1, num_heads, num_kv_heads).transpose(0, 1),
        qkv.narrow(1, num_rotated, num_kv_heads).transpose(0, 1),
    )
    mixed = views.attend(rotated.narrow(1, 0, num_heads), mask)
    hidden = layer.output(hidden, mixed)
    gate, up = layer.gate_up(layer.mlp_norm(hidden)).chunk(2, -1)
    return layer.down(hidden, F.silu(gate, inplace=True).mul_(up))


def rms_norm(weight: Tensor, eps: float) -> Apply:
    """Divide by the root of the mean square, and multiply by a weight.

    Args:
        weight: [..., size].
        eps: added to the mean square.
    """
    size = weight.shape[-1]
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        # sqrt(|x|^2 + size * eps) = sqrt(size) * rms(x): four small kernels, F.rms_norm takes six.
        floor = torch.tensor(sqrt(size * eps))
        scaled = weight.detach() * sqrt(size)
        norm, hypot = torch.linalg.vector_norm, torch.hypot
        return lambda x: x / hypot(norm(x, 2, -1, True), floor) * scaled
    shape = (size,)
    if weight.dim() == 1:
        return lambda x: F.rms_norm(x, shape, weight, eps)
    return lambda x: F.rms_norm(x, shape, None, eps) * weight
