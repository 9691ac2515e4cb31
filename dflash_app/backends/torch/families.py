"""The target families: how each goes back after a rejected draft, and which class loads it."""

from typing import Any, Literal

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)

from dflash_app.errors import UnsupportedFormat

RollbackKind = Literal["crop", "replay", "slice", "snapshot"]
"""How a cache forgets rejected tokens.

- crop: keys and values are cut off (full, sliding and indexed attention).
- replay: a recurrence runs again, over the kept tokens of the block only (GatedDeltaNet).
- slice: windows that rejected tokens closed are opened again (DeepSeek-V4's compressor).
- snapshot: a copy of the cache comes back, and the model reads the kept tokens a second time.
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
    "deepseek_v3": "crop",
    "kimi_k25": "crop",
    "minimax_m2": "crop",
    "glm_moe_dsa": "crop",
    "muse_glimmer": "crop",
    "qwen3_next": "replay",
    "qwen3_5": "replay",
    "qwen3_5_text": "replay",
    "qwen3_5_moe": "replay",
    "qwen3_5_moe_text": "replay",
    "deepseek_v4": "slice",
}
"""By `model_type`, of a multimodal wrapper as well as of its text model: the supported families.

No family is listed as "snapshot": it is for families that nobody has looked at, on demand.
"""


def rollback_of(model_type: str | None) -> RollbackKind:
    """How a family goes back.

    Raises:
        UnsupportedFormat: the family is not in the table.
    """
    kind = ROLLBACK_KINDS.get(model_type or "")
    if kind is None:
        raise UnsupportedFormat(
            f"Targets of the family {model_type!r} are not supported yet: choose a pair whose "
            f"target is one of {', '.join(ROLLBACK_KINDS)}."
        )
    return kind


def auto_class(config: Any) -> Any:
    """The class of transformers that loads a config's weights and predicts text.

    Args:
        config: as AutoConfig reads it. Some wrappers have a text-only class (qwen3_5), others
            load with their towers, which then do nothing (gemma4, kimi_k25, muse_glimmer).
    """
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    return AutoModelForImageTextToText
