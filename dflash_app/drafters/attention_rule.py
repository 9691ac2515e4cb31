"""Which keys each layer of a drafter sees, and how a config says it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers.models.qwen3.configuration_qwen3 import Qwen3Config

from dflash_app.errors import LoadError


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


def attention_rules(raw: Mapping[str, Any], shape: Qwen3Config) -> tuple[AttentionRule, ...]:
    """One rule per layer.

    Causality is `is_causal`, else `dflash_config.causal` (vLLM's), else what sliding layers have
    and full ones have not.

    Args:
        raw: the parsed config.json.
        shape: the same, its layer types and window settled by transformers.

    Raises:
        LoadError: `use_swa` without the keys that go with it.
    """
    nested = raw.get("dflash_config") or {}
    forced = raw.get("is_causal", nested.get("causal"))
    if nested.get("use_swa"):
        return _windowed_everywhere(nested, forced, shape.num_hidden_layers)
    rules = []
    for layer_type in shape.layer_types or ():
        sliding = layer_type == "sliding_attention"
        causal = sliding if forced is None else bool(forced)
        rules.append(AttentionRule(causal, shape.sliding_window if sliding else None))
    return tuple(rules)


def _windowed_everywhere(
    nested: Mapping[str, Any], forced: Any, num_layers: int
) -> tuple[AttentionRule, ...]:
    """Model-Optimizer's `use_swa`: every layer slides, whatever `layer_types` says."""
    window = nested.get("swa_window_size")
    if window is None or forced is None:
        raise LoadError(
            "The drafter's config.json says use_swa without swa_window_size and causal: export it "
            "again with a newer Model-Optimizer."
        )
    return (AttentionRule(bool(forced), int(window)),) * num_layers
