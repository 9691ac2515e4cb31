"""The target as a lean training module: Qwen3's mathematics, Qwen3's tensor names on export."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

_LONG_ROW = 512


@dataclass(frozen=True, slots=True)
class TargetShape:
    """Sizes of the target."""

    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 448
    num_layers: int = 8
    num_heads: int = 8
    num_kv_heads: int = 4
    head_dim: int = 32
    context_length: int = 2048
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6


class _Block(nn.Module):
    """One pre-norm transformer layer with fused projections."""

    def __init__(self, shape: TargetShape) -> None:
        super().__init__()
        self.shape = shape
        s, heads = shape, shape.num_heads + 2 * shape.num_kv_heads
        self.norm_in = nn.Parameter(torch.ones(s.hidden_size))
        self.norm_mid = nn.Parameter(torch.ones(s.hidden_size))
        self.norm_q = nn.Parameter(torch.ones(s.head_dim))
        self.norm_k = nn.Parameter(torch.ones(s.head_dim))
        self.qkv = nn.Linear(s.hidden_size, heads * s.head_dim, bias=False)
        self.out = nn.Linear(s.num_heads * s.head_dim, s.hidden_size, bias=False)
        self.gate_up = nn.Linear(s.hidden_size, 2 * s.intermediate_size, bias=False)
        self.down = nn.Linear(s.intermediate_size, s.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        s = self.shape
        batch, length, _ = x.shape
        y = _norm(x, self.norm_in, s.rms_norm_eps)
        heads = [s.num_heads, s.num_kv_heads, s.num_kv_heads]
        q, k, v = self.qkv(y).view(batch, length, -1, s.head_dim).split(heads, 2)
        q = _rotate(_norm(q, self.norm_q, s.rms_norm_eps), cos, sin).transpose(1, 2)
        k = _rotate(_norm(k, self.norm_k, s.rms_norm_eps), cos, sin).transpose(1, 2)
        group = s.num_heads // s.num_kv_heads
        k = k.repeat_interleave(group, 1)
        v = v.transpose(1, 2).repeat_interleave(group, 1)
        mixed = _attend(q * s.head_dim**-0.5, k, v, mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        gate, up = self.gate_up(_norm(x, self.norm_mid, s.rms_norm_eps)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Causal attention. Short rows are written out: their bfloat16 backward on CPU is faster so."""
    if q.shape[2] > _LONG_ROW:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
    return torch.softmax(q @ k.transpose(-1, -2) + mask, -1) @ v


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, eps)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class TrainableTarget(nn.Module):
    """The target with its loss as output."""

    def __init__(self, shape: TargetShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.num_layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden_size))
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(
        self, inputs: Tensor, targets: Tensor, cos: Tensor, sin: Tensor, mask: Tensor
    ) -> Tensor:
        """Mean cross-entropy of the learned tokens.

        Args:
            inputs: [B, T] int64.
            targets: [B, T] int64, -100 where nothing is learned.
            cos: [1, T, 1, head_dim / 2], rotary cosines.
            sin: likewise.
            mask: [T, T], 0 or a large negative number.
        """
        x = self.embedding(inputs)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        x = _norm(x, self.norm, self.shape.rms_norm_eps)
        logits = F.linear(x.flatten(0, 1), self.embedding.weight)
        return F.cross_entropy(logits.float(), targets.flatten(), ignore_index=-100)

    def positions(self, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Rotary cosines and sines, and the causal mask, for rows of `length`."""
        s = self.shape
        rates = s.rope_theta ** (-torch.arange(0, s.head_dim, 2) / s.head_dim)
        angles = torch.arange(length)[:, None] * rates
        mask = torch.full((length, length), -1e9).triu(1)
        shape = (1, length, 1, s.head_dim // 2)
        return (
            angles.cos().view(shape).to(dtype),
            angles.sin().view(shape).to(dtype),
            mask.to(dtype),
        )


def export_target(model: TrainableTarget, folder: Path, eos_id: int, pad_id: int) -> None:
    """Write a Qwen3ForCausalLM checkpoint in bfloat16: config, generation config, weights."""
    s = model.shape
    tensors = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.norm,
    }
    for index, block in enumerate(model.blocks):
        tensors |= {f"model.layers.{index}.{name}": t for name, t in _layer_tensors(block, s)}
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: t.detach().to(torch.bfloat16).contiguous() for name, t in tensors.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "dtype": "bfloat16",
        "vocab_size": s.vocab_size,
        "hidden_size": s.hidden_size,
        "intermediate_size": s.intermediate_size,
        "num_hidden_layers": s.num_layers,
        "num_attention_heads": s.num_heads,
        "num_key_value_heads": s.num_kv_heads,
        "head_dim": s.head_dim,
        "max_position_embeddings": s.context_length,
        "rope_parameters": {"rope_type": "default", "rope_theta": s.rope_theta},
        "rms_norm_eps": s.rms_norm_eps,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "use_sliding_window": False,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
    }
    _write_json(folder / "config.json", config)
    generation = {"eos_token_id": [eos_id, pad_id], "pad_token_id": pad_id, "do_sample": False}
    _write_json(folder / "generation_config.json", generation)


def _layer_tensors(block: nn.Module, s: TargetShape) -> list[tuple[str, Tensor]]:
    assert isinstance(block, _Block)
    widths = [s.num_heads * s.head_dim, s.num_kv_heads * s.head_dim, s.num_kv_heads * s.head_dim]
    q, k, v = block.qkv.weight.split(widths)
    gate, up = block.gate_up.weight.chunk(2)
    return [
        ("input_layernorm.weight", block.norm_in),
        ("post_attention_layernorm.weight", block.norm_mid),
        ("self_attn.q_norm.weight", block.norm_q),
        ("self_attn.k_norm.weight", block.norm_k),
        ("self_attn.q_proj.weight", q),
        ("self_attn.k_proj.weight", k),
        ("self_attn.v_proj.weight", v),
        ("self_attn.o_proj.weight", block.out.weight),
        ("mlp.gate_proj.weight", gate),
        ("mlp.up_proj.weight", up),
        ("mlp.down_proj.weight", block.down.weight),
    ]


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
