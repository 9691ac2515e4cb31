"""Rotary positions of a drafter, through mlx-lm's own implementations."""

from typing import Any

from mlx_lm.models.rope_utils import initialize_rope

from dflash_app.drafters.config import DFlashConfig
from dflash_app.errors import UnsupportedFormat

_TYPES = ("default", "linear", "yarn", "llama3")


def new_rope(config: DFlashConfig) -> Any:
    """A function of ([b, heads, T, head_dim], offset=position of the first) -> the same, rotated.

    Raises:
        UnsupportedFormat: a rope type, or a setting of one, that mlx-lm computes otherwise.
    """
    parameters = dict(config.rope_parameters)
    rope_type = parameters.get("rope_type", "default")
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedFormat(
            "A drafter that rotates a part of each head is not supported yet: choose another "
            "drafter."
        )
    if rope_type not in _TYPES:
        raise UnsupportedFormat(
            f"The drafter's rope type {rope_type!r} is not supported yet: choose another drafter."
        )
    if parameters.get("truncate") is False or parameters.get("attention_factor") is not None:
        raise UnsupportedFormat(
            "This drafter's YaRN has settings that mlx-lm ignores (truncate, attention_factor): "
            "use the torch backend."
        )
    parameters.setdefault("original_max_position_embeddings", config.max_position_embeddings)
    return initialize_rope(
        config.head_dim,
        base=parameters["rope_theta"],
        traditional=False,
        scaling_config=parameters,
        max_position_embeddings=config.max_position_embeddings,
    )
