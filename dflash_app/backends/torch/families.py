"""The target families: how each goes back after a rejected draft, and which class loads it.

The table needs no tensor library: the list of pairs asks it too.
"""

from collections.abc import Mapping
from typing import Any, Literal

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

NOT_IN_FLOAT16 = {
    "deepseek_v4": "transformers keeps its compressor in float32 and gives it float16",
}
"""By `model_type`: why the family cannot run in float16 (transformers 5.23)."""


def rollback_of(model_type: str | None) -> RollbackKind:
    """How a family goes back.

    Raises:
        UnsupportedFormat: the family is not in the table.
    """
    kind = ROLLBACK_KINDS.get(str(model_type))
    if kind is None:
        raise UnsupportedFormat(
            f"Targets of the family {model_type!r} are not supported yet: choose a pair whose "
            f"target is one of {', '.join(ROLLBACK_KINDS)}."
        )
    return kind


def check_family(config: Mapping[str, Any]) -> RollbackKind:
    """How the family of a parsed config.json goes back.

    Raises:
        UnsupportedFormat: the family is not in the table.
    """
    return rollback_of(config.get("model_type"))


_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""What configs call their number."""

_SPECIAL_LAYERS = {"linear_attention": "recurrent layers", "sliding_attention": "sliding window"}
"""By what `layer_types` says; full attention is the plain case."""


def has_experts(text_config: Any) -> bool:
    """Whether a text model chooses between experts."""
    return any(getattr(text_config, name, None) for name in _EXPERTS)


def special_layers(text_config: Any) -> str | None:
    """What sets a text model apart from dense ones with full attention, in two words, or None."""
    kinds = set(getattr(text_config, "layer_types", None) or ()) - {"full_attention"}
    if "linear_attention" not in kinds and has_experts(text_config):
        return "mixture of experts"
    # Recurrent before sliding.
    for kind in sorted(kinds):
        return _SPECIAL_LAYERS.get(kind, f"{kind.replace('_', ' ')} layers")
    return None


def slow_path(reason: str | None) -> str:
    """What users are told of a model that transformers' way of decoding runs."""
    return "dynamic cache" if reason is None else f"dynamic cache: {reason}"


def auto_class(config: Any) -> Any:
    """The class of transformers that loads a config's weights and predicts text.

    Args:
        config: as AutoConfig reads it. Some wrappers have a text-only class (qwen3_5), others
            load with their towers: see `drop_towers`.
    """
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
    )

    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    return AutoModelForImageTextToText


def drop_towers(model: Any) -> None:
    """Free what a multimodal wrapper (gemma4, kimi_k25, muse_glimmer) sees and hears with.

    Args:
        model: from transformers; nothing is left of it but the language model and the head.
    """
    body: Any = getattr(model, "model", None)
    if getattr(body, "language_model", None) is None:
        return
    for name, _ in list(body.named_children()):
        if name != "language_model":
            setattr(body, name, None)
