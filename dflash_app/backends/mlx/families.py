"""The targets: how each family goes back after a rejected draft, and what mlx-lm reads of it.

The table needs no tensor library: the list of pairs asks it too.
"""

from collections.abc import Mapping
from typing import Any, Literal

from dflash_app.errors import UnsupportedFormat

RollbackKind = Literal["crop", "replay"]
"""How a cache forgets rejected tokens.

- crop: keys and values are cut off (full and sliding attention).
- replay: a recurrence runs again, over the kept tokens of the block only (GatedDeltaNet).
"""

ROLLBACK_KINDS: dict[str, RollbackKind] = {
    "qwen3": "crop",
    "llama": "crop",
    "qwen3_moe": "crop",
    "gpt_oss": "crop",
    "gemma4": "crop",
    "gemma4_text": "crop",
    "gemma4_unified": "crop",
    "gemma4_unified_text": "crop",
    "muse_glimmer": "crop",
    "deepseek_v3": "crop",
    "kimi_k25": "crop",
    "qwen3_next": "replay",
    "qwen3_5": "replay",
    "qwen3_5_text": "replay",
    "qwen3_5_moe": "replay",
    "qwen3_5_moe_text": "replay",
}
"""By `model_type`, of a multimodal wrapper as well as of its text model: the supported families."""

_MLX_LM_NAMES = {
    "qwen3_5_text": "qwen3_5",
    "qwen3_5_moe_text": "qwen3_5_moe",
    "gemma4_unified_text": "gemma4_text",
}
"""Text models that mlx-lm knows by another name."""

_READ_METHODS = ("mxfp4", "mxfp8", "awq", "gptq", "compressed-tensors", "modelopt")
"""Of `quantization_config`: what mlx-lm turns into its own formats; it refuses variants itself."""


def rollback_of(model_type: str | None) -> RollbackKind:
    """How a family goes back.

    Raises:
        UnsupportedFormat: the family is not in the table.
    """
    kind = ROLLBACK_KINDS.get(str(model_type))
    if kind is None:
        raise UnsupportedFormat(
            f"Targets of the family {model_type!r} do not run on MLX here: use the torch backend, "
            f"or choose a pair whose target is one of {', '.join(ROLLBACK_KINDS)}."
        )
    return kind


def mlx_lm_name(model_type: str) -> str:
    """The `model_type` under which mlx-lm has a family."""
    return _MLX_LM_NAMES.get(model_type, model_type)


def check_family(config: Mapping[str, Any]) -> RollbackKind:
    """Refuse a target that mlx-lm would not load, or would load and compute wrongly.

    Args:
        config: a parsed config.json.

    Returns:
        How its family goes back.

    Raises:
        UnsupportedFormat: the family is not in the table, has a part that mlx-lm ignores, or is
            stored as what it does not read.
    """
    kind = rollback_of(config.get("model_type"))
    stored = stored_as(config)
    if stored is not None and "quantization" not in config and stored not in _READ_METHODS:
        raise UnsupportedFormat(
            f"This target is stored as {stored}, which mlx-lm does not read: choose an "
            "mlx-community conversion, or use the torch backend."
        )
    if config.get("model_type") in ("qwen3", "qwen3_moe") and config.get("use_sliding_window"):
        raise UnsupportedFormat(
            "This target has sliding windows, which mlx-lm ignores in its family: use the torch "
            "backend."
        )
    return kind


def stored_as(config: Mapping[str, Any]) -> str | None:
    """What a checkpoint's weights are stored as: "4bit", "mxfp4"; None where they are full."""
    own = config.get("quantization")
    if isinstance(own, dict):
        mode = own.get("mode", "affine")
        return f"{own.get('bits', 4)}bit" if mode == "affine" else str(mode)
    foreign = config.get("quantization_config")
    return str(foreign.get("quant_method")) if isinstance(foreign, dict) else None
