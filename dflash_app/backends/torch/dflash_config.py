"""What a z-lab `config.json` says about a drafter, nested (`dflash_config`) or flat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers.models.qwen3.configuration_qwen3 import Qwen3Config

from dflash_app.errors import LoadError

DEFAULT_BLOCK_SIZE = 16
"""Where a config names none; z-lab's own default."""


@dataclass(frozen=True, slots=True)
class AttentionRule:
    """Which keys a query of one layer may see.

    Attributes:
        causal: a key after the query is hidden.
        window: a key is hidden at this distance or more (both ways where not causal); None: never.
    """

    causal: bool = False
    window: int | None = None

    @property
    def unrestricted(self) -> bool:
        """True where every query sees every key."""
        return not self.causal and self.window is None


@dataclass(frozen=True, slots=True)
class DFlashConfig:
    """Shape and rules of a drafter.

    Attributes:
        vocab_size: rows of the target's embedding that the drafter was trained with.
        hidden_size: the target's hidden size too: the drafter borrows its embedding and head.
        target_layer_ids: 0-based target layers whose output is tapped, in order.
        block_size: anchor included.
        mask_token_id: the token whose embedding fills the slots to draft.
        attention_rules: one per layer.
        rope_parameters: as in transformers 5: `rope_type`, `rope_theta` and the type's own keys.
        num_target_layers: depth of the target, where the config says it.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    target_layer_ids: tuple[int, ...]
    block_size: int
    mask_token_id: int
    attention_rules: tuple[AttentionRule, ...]
    rope_parameters: Mapping[str, Any]
    max_position_embeddings: int = 32768
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    hidden_act: str = "silu"
    num_target_layers: int | None = None
    input_embedding_scale: float = 1.0
    output_multiplier: float = 1.0
    final_logit_softcapping: float | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "DFlashConfig":
        """Read the parsed `config.json` of a z-lab checkpoint.

        Args:
            raw: the JSON object; DFlash's own keys are looked up in `dflash_config` first, then at
                the top level.

        Raises:
            LoadError: a key is missing or its value makes no drafter; the message names it.
        """
        shape = _qwen3_config(raw)
        nested = raw.get("dflash_config") or {}

        def own(name: str, default: Any = None) -> Any:
            return nested.get(name, raw.get(name, default))

        try:
            config = cls(
                vocab_size=shape.vocab_size,
                hidden_size=shape.hidden_size,
                intermediate_size=shape.intermediate_size,
                num_hidden_layers=shape.num_hidden_layers,
                num_attention_heads=shape.num_attention_heads,
                num_key_value_heads=shape.num_key_value_heads or shape.num_attention_heads,
                head_dim=raw.get("head_dim") or shape.hidden_size // shape.num_attention_heads,
                target_layer_ids=tuple(_required(own, "target_layer_ids")),
                block_size=int(own("block_size", DEFAULT_BLOCK_SIZE)),
                mask_token_id=int(_required(own, "mask_token_id")),
                attention_rules=_attention_rules(raw, shape),
                rope_parameters=dict(shape.rope_parameters or {}),
                max_position_embeddings=shape.max_position_embeddings,
                rms_norm_eps=shape.rms_norm_eps,
                attention_bias=shape.attention_bias,
                hidden_act=shape.hidden_act,
                num_target_layers=raw.get("num_target_layers"),
                input_embedding_scale=float(own("input_embedding_scale", 1.0)),
                output_multiplier=float(own("output_multiplier", 1.0)),
                final_logit_softcapping=_softcap(own("final_logit_softcapping")),
            )
        except (TypeError, ValueError) as error:
            raise LoadError(
                f"The drafter's config.json has a value of a wrong type: {error}."
            ) from error
        _check(config)
        return config

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` that z-lab's code, vLLM and `from_dict` read.

        Raises:
            LoadError: the layers' rules cannot be written in z-lab's keys.
        """
        windows = {rule.window for rule in self.attention_rules if rule.window is not None}
        if len(windows) > 1:
            raise LoadError(
                "A z-lab config.json holds one sliding window for all layers, not several."
            )
        written: dict[str, Any] = {
            "architectures": ["DFlashDraftModel"],
            "model_type": "qwen3",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": self.hidden_act,
            "rms_norm_eps": self.rms_norm_eps,
            "attention_bias": self.attention_bias,
            "max_position_embeddings": self.max_position_embeddings,
            "rope_parameters": dict(self.rope_parameters),
            "tie_word_embeddings": False,
            "use_sliding_window": bool(windows),
            "sliding_window": next(iter(windows), None),
            "layer_types": [
                "full_attention" if rule.window is None else "sliding_attention"
                for rule in self.attention_rules
            ],
            "block_size": self.block_size,
            "dflash_config": {
                "block_size": self.block_size,
                "mask_token_id": self.mask_token_id,
                "target_layer_ids": list(self.target_layer_ids),
                "input_embedding_scale": self.input_embedding_scale,
                "output_multiplier": self.output_multiplier,
                "final_logit_softcapping": self.final_logit_softcapping,
            },
            # z-lab's constructor reads it even where target_layer_ids makes it needless.
            "num_target_layers": self.num_target_layers or max(self.target_layer_ids) + 3,
        }
        if any(rule.causal != (rule.window is not None) for rule in self.attention_rules):
            if len({rule.causal for rule in self.attention_rules}) > 1:
                raise LoadError("A z-lab config.json cannot hold these layers' mixed causality.")
            written["is_causal"] = self.attention_rules[0].causal
        return written


def _qwen3_config(raw: Mapping[str, Any]) -> Qwen3Config:
    """Let transformers settle old and new spellings (rope, windows, layer types)."""
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"):
        if not isinstance(raw.get(name), int):
            raise LoadError(f"The drafter's config.json has no whole number {name!r}.")
    try:
        return Qwen3Config(**raw)
    # transformers raises its own validation errors, KeyError and AttributeError among them.
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise LoadError(f"The drafter's config.json is not a valid config: {error}") from error


def _attention_rules(raw: Mapping[str, Any], shape: Qwen3Config) -> tuple[AttentionRule, ...]:
    """Causality: `is_causal`, else `dflash_config.causal` (vLLM), else sliding layers only."""
    nested = raw.get("dflash_config") or {}
    forced = raw.get("is_causal", nested.get("causal"))
    rules = []
    for layer_type in shape.layer_types or ():
        sliding = layer_type == "sliding_attention"
        causal = sliding if forced is None else bool(forced)
        rules.append(AttentionRule(causal, shape.sliding_window if sliding else None))
    return tuple(rules)


def _required(own: Any, name: str) -> Any:
    value = own(name)
    if value is None:
        raise LoadError(f"The drafter's config.json has no {name!r}: it is not a DFlash drafter.")
    return value


def _softcap(value: Any) -> float | None:
    return float(value) if value is not None and float(value) > 0 else None


def _check(config: DFlashConfig) -> None:
    problems = {
        "target_layer_ids names no layer": not config.target_layer_ids,
        "target_layer_ids holds something else than layer numbers": any(
            not isinstance(index, int) or index < 0 for index in config.target_layer_ids
        ),
        "block_size is below 2": config.block_size < 2,
        "mask_token_id is outside the vocabulary": not 0
        <= config.mask_token_id
        < config.vocab_size,
        "num_attention_heads is no multiple of num_key_value_heads": (
            config.num_attention_heads % config.num_key_value_heads != 0
        ),
        "layer_types does not match num_hidden_layers": (
            len(config.attention_rules) != config.num_hidden_layers
        ),
    }
    for problem, present in problems.items():
        if present:
            raise LoadError(f"The drafter's config.json is wrong: {problem}.")
