"""Rotary positions, every rope type that has fixed frequencies."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config

from dflash_app.drafters.config import DFlashConfig
from dflash_app.drafters.transformers_calls import quiet_transformers
from dflash_app.errors import UnsupportedFormat

Rotation: TypeAlias = tuple[Tensor, Tensor]
"""cos and sin, [1 or batch, 1, T, head_dim]."""


class RotaryEmbedding(nn.Module):
    """Position -> cos and sin, through transformers' own rope initialisation."""

    inv_freq: Tensor

    def __init__(self, config: DFlashConfig) -> None:
        super().__init__()
        self._exact, self._scaling = _inverse_frequencies(config)
        self.register_buffer("inv_freq", self._exact, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RotaryEmbedding":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # `.to(bfloat16)` must move the frequencies, never round them.
        self.inv_freq = self._exact.to(self.inv_freq.device)
        return self

    def forward(self, positions: Tensor) -> Rotation:
        """[T] or [b, T] int64 -> cos and sin, each [1, 1, T, head_dim] or [b, 1, T, head_dim]."""
        angles = positions[..., None].float() * self.inv_freq
        angles = torch.cat([angles, angles], dim=-1).unsqueeze(-3)
        return angles.cos() * self._scaling, angles.sin() * self._scaling


def _inverse_frequencies(config: DFlashConfig) -> tuple[Tensor, float]:
    """[head_dim / 2] float32 on the CPU even under a meta device, and the factor on cos and sin."""
    parameters = dict(config.rope_parameters)
    rope_type = parameters.get("rope_type", "default")
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedFormat("A drafter that rotates a part of each head is not supported yet.")
    if rope_type == "default":
        steps = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device="cpu")
        return 1.0 / (float(parameters["rope_theta"]) ** (steps / config.head_dim)), 1.0
    if rope_type not in ("linear", "yarn", "llama3"):
        raise UnsupportedFormat(f"The drafter's rope type {rope_type!r} is not supported yet.")
    with quiet_transformers(), torch.device("cpu"):
        shape = Qwen3Config(
            hidden_size=config.hidden_size,
            num_attention_heads=config.num_attention_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.max_position_embeddings,
            rope_parameters=parameters,
        )
        frequencies, scaling = ROPE_INIT_FUNCTIONS[rope_type](shape, torch.device("cpu"))
    return frequencies.float(), float(scaling)


def rotate(states: Tensor, rotation: Rotation) -> Tensor:
    """Rotate [b, heads, T, head_dim] by position, halves paired as in Llama."""
    cos, sin = rotation[0].to(states.dtype), rotation[1].to(states.dtype)
    left, right = states.chunk(2, dim=-1)
    return states * cos + torch.cat([-right, left], dim=-1) * sin
