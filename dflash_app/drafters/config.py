"""What a z-lab `config.json` says about a drafter, nested (`dflash_config`) or flat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers.activations import ACT2FN
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config

from dflash_app.drafters.attention_rule import AttentionRule, attention_rules
from dflash_app.drafters.transformers_calls import quiet_transformers
from dflash_app.errors import LoadError

__all__ = ["AttentionRule", "DFlashConfig", "SelectorConfig"]

DEFAULT_BLOCK_SIZE = 16
"""Where a config names none; z-lab's own default."""


@dataclass(frozen=True, slots=True)
class SelectorConfig:
    """What DFlash 2 adds to the first generation.

    Attributes:
        conv_kernel_size: taps of the convolution, the slot itself included.
        conv_group_size: channels that share one dynamic kernel.
        rank: of the codebooks.
        top_k: candidates per slot.
    """

    conv_kernel_size: int
    conv_group_size: int
    rank: int
    top_k: int


@dataclass(frozen=True, slots=True)
class DFlashConfig:
    """Shape and rules of a drafter.

    Attributes:
        vocab_size: rows of the target's embedding that the drafter was trained with; None where
            the config does not say.
        hidden_size: the target's hidden size too: the drafter reads its states.
        target_layer_ids: 0-based target layers whose output is tapped, in order.
        block_size: anchor and drafts, whichever slot the drafts come from.
        mask_token_id: the token whose embedding fills the slots to draft.
        attention_rules: one per layer.
        rope_parameters: as in transformers 5: `rope_type`, `rope_theta` and the type's own keys.
        num_target_layers: depth of the target, where the config says it.
        drafts_from_anchor: slot k holds the draft of position k + 1 and not of k, so a block needs
            one slot less.
        selector: makes it a DFlash 2.
        own_embedding: the checkpoint carries one; else the target's is borrowed.
        own_head: the checkpoint carries one; else the target's is borrowed.
        draft_vocab_size: rows of a head that knows only some tokens; None: it knows all.
    """

    vocab_size: int | None
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
    drafts_from_anchor: bool = False
    selector: SelectorConfig | None = None
    own_embedding: bool = False
    own_head: bool = False
    draft_vocab_size: int | None = None

    @property
    def num_slots(self) -> int:
        """Slots that a whole block feeds to the drafter."""
        return self.block_size - self.drafts_from_anchor

    @property
    def known_vocab_size(self) -> int:
        """`vocab_size`, for parts that cannot be made without it.

        Raises:
            LoadError: the config does not say it.
        """
        if self.vocab_size is None:
            raise LoadError(
                "The drafter's config.json has no 'vocab_size', which its tensors need."
            )
        return self.vocab_size

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
            from_anchor = bool(own("sample_from_anchor", False))
            config = cls(
                vocab_size=raw.get("vocab_size"),
                hidden_size=shape.hidden_size,
                intermediate_size=shape.intermediate_size,
                num_hidden_layers=shape.num_hidden_layers,
                num_attention_heads=shape.num_attention_heads,
                num_key_value_heads=shape.num_key_value_heads or shape.num_attention_heads,
                head_dim=raw.get("head_dim") or shape.hidden_size // shape.num_attention_heads,
                target_layer_ids=tuple(_required(own, "target_layer_ids")),
                # Files count slots; a block that drafts from its anchor has one slot less.
                block_size=int(own("block_size", DEFAULT_BLOCK_SIZE)) + from_anchor,
                mask_token_id=int(_required(own, "mask_token_id")),
                attention_rules=attention_rules(raw, shape),
                rope_parameters=dict(shape.rope_parameters or {}),
                max_position_embeddings=shape.max_position_embeddings,
                rms_norm_eps=shape.rms_norm_eps,
                attention_bias=shape.attention_bias,
                hidden_act=shape.hidden_act,
                num_target_layers=raw.get("num_target_layers"),
                input_embedding_scale=float(own("input_embedding_scale", 1.0)),
                output_multiplier=float(own("output_multiplier", 1.0)),
                final_logit_softcapping=_softcap(own("final_logit_softcapping")),
                drafts_from_anchor=from_anchor,
                selector=_selector(own) if _is_dflash2(raw) else None,
            )
        except (TypeError, ValueError, OverflowError) as error:
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
        if self.own_embedding or self.own_head:
            raise LoadError(
                "A z-lab checkpoint borrows embedding and head from its target: a drafter with its "
                "own cannot be saved as one."
            )
        written: dict[str, Any] = {
            "architectures": ["DFlash2DraftModel" if self.selector else "DFlashDraftModel"],
            "model_type": "qwen3",
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
            "block_size": self.num_slots,
            "dflash_config": {
                "block_size": self.num_slots,
                "mask_token_id": self.mask_token_id,
                "target_layer_ids": list(self.target_layer_ids),
                "input_embedding_scale": self.input_embedding_scale,
                "output_multiplier": self.output_multiplier,
                "final_logit_softcapping": self.final_logit_softcapping,
            },
            # z-lab's constructor reads it even where target_layer_ids makes it needless.
            "num_target_layers": self.num_target_layers or max(self.target_layer_ids) + 3,
        }
        if self.vocab_size is not None:
            written["vocab_size"] = self.vocab_size
        if self.drafts_from_anchor:
            written["dflash_config"]["sample_from_anchor"] = True
        if self.selector is not None:
            written["dflash_config"] |= {
                "conv_kernel_size": self.selector.conv_kernel_size,
                "conv_group_size": self.selector.conv_group_size,
                "selector_rank": self.selector.rank,
                "selector_top_k": self.selector.top_k,
            }
        if any(rule.causal != (rule.window is not None) for rule in self.attention_rules):
            if len({rule.causal for rule in self.attention_rules}) > 1:
                raise LoadError("A z-lab config.json cannot hold these layers' mixed causality.")
            written["is_causal"] = self.attention_rules[0].causal
        return written


def transformers_config(config_class: Any, raw: Mapping[str, Any]) -> Any:
    """Let transformers fill in defaults and settle spellings.

    Args:
        config_class: of the config.
        raw: a parsed config.json.

    Raises:
        LoadError: transformers finds a value wrong.
    """
    try:
        with quiet_transformers():
            return config_class(**raw)
    except (TypeError, ValueError, KeyError, AttributeError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise LoadError(f"The drafter's config.json is not a valid config: {reason}.") from error


def _qwen3_config(raw: Mapping[str, Any]) -> Qwen3Config:
    """The layers' shape; old and new spellings of rope, windows and layer types settled."""
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers"):
        if not isinstance(raw.get(name), int):
            raise LoadError(f"The drafter's config.json has no whole number {name!r}.")
    settled: Qwen3Config = transformers_config(Qwen3Config, raw)
    return settled


def _is_dflash2(raw: Mapping[str, Any]) -> bool:
    nested = raw.get("dflash_config") or {}
    names = [*(raw.get("architectures") or ()), nested.get("projector_type")]
    return any("dflash2" in str(name).lower() for name in names)


def _selector(own: Any) -> SelectorConfig:
    return SelectorConfig(
        conv_kernel_size=int(_required(own, "conv_kernel_size")),
        conv_group_size=int(_required(own, "conv_group_size")),
        rank=int(_required(own, "selector_rank")),
        top_k=int(_required(own, "selector_top_k")),
    )


def _required(own: Any, name: str) -> Any:
    value = own(name)
    if value is None:
        raise LoadError(
            f"The drafter's config.json has no {name!r}, so it is no DFlash drafter: choose one."
        )
    return value


def _softcap(value: Any) -> float | None:
    return float(value) if value is not None and float(value) > 0 else None


def _check(config: DFlashConfig) -> None:
    sizes = (
        *(config.hidden_size, config.intermediate_size, config.num_hidden_layers),
        *(config.num_attention_heads, config.num_key_value_heads, config.head_dim),
    )
    problems = {
        "target_layer_ids names no layer": not config.target_layer_ids,
        "target_layer_ids holds something else than layer numbers": any(
            not isinstance(index, int) or index < 0 for index in config.target_layer_ids
        ),
        "block_size is below 2": config.block_size < 2,
        "a size of the layers is below 1": min(sizes) < 1,
        f"hidden_act {config.hidden_act!r} is no activation": config.hidden_act not in ACT2FN,
        "mask_token_id is outside the vocabulary": config.mask_token_id < 0
        or (config.vocab_size is not None and config.mask_token_id >= config.vocab_size),
        "num_attention_heads is no multiple of num_key_value_heads": (
            config.num_attention_heads % (config.num_key_value_heads or 1) != 0
        ),
        "layer_types does not match num_hidden_layers": (
            len(config.attention_rules) != config.num_hidden_layers
        ),
        **_selector_problems(config),
    }
    for problem, present in problems.items():
        if present:
            raise LoadError(
                f"The drafter's config.json is wrong ({problem}): download the drafter again, or "
                "choose another."
            )


def _selector_problems(config: DFlashConfig) -> dict[str, bool]:
    selector = config.selector
    if selector is None:
        return {}
    sizes = (selector.conv_kernel_size, selector.conv_group_size, selector.rank, selector.top_k)
    return {
        "a size of the convolution or the selector is below 1": min(sizes) < 1,
        "hidden_size is no multiple of conv_group_size": bool(
            config.hidden_size % max(selector.conv_group_size, 1)
        ),
    }
