"""The format of the speculators library (vLLM, Red Hat).

The layers' shape is nested in `transformer_layer_config`, tapped layers count from 1 (0 is the
embedding), and a head may know only some of the target's tokens: row i is the token i + d2t[i].

Source: github.com/vllm-project/speculators, src/speculators/models/dflash and model.py.
"""

from typing import Any

from transformers import CONFIG_MAPPING

from dflash_app.drafters.config import transformers_config
from dflash_app.drafters.formats.checkpoint_format import CheckpointFormat
from dflash_app.drafters.marks import RawConfig
from dflash_app.errors import LoadError, UnsupportedFormat

_LAYER_TYPES = ("qwen3", "llama")
_DEFAULT_BLOCK_SIZE = 8
_SELECTOR_KEYS = ("conv_kernel_size", "conv_group_size", "selector_rank", "selector_top_k")


def _to_zlab(raw: RawConfig) -> dict[str, Any]:
    shape = _shape(raw)
    tapped = raw.get("aux_hidden_state_layer_ids")
    if not isinstance(tapped, list) or not all(isinstance(index, int) for index in tapped):
        raise LoadError("The drafter's config.json has no list 'aux_hidden_state_layer_ids'.")
    if raw.get("target_hidden_size") not in (None, shape.get("hidden_size")):
        raise UnsupportedFormat(
            f"This drafter reads states of {raw['target_hidden_size']} numbers and computes with "
            f"{shape.get('hidden_size')}, which is not supported yet: choose a z-lab DFlash "
            "drafter."
        )
    is_dflash2 = raw.get("speculators_model_type") == "dflash2"
    written = {
        **shape,
        "architectures": ["DFlash2DraftModel" if is_dflash2 else "DFlashDraftModel"],
        "model_type": "qwen3",
        "block_size": raw.get("block_size", _DEFAULT_BLOCK_SIZE),
        "mask_token_id": raw.get("mask_token_id"),
        "target_layer_ids": [index - 1 for index in tapped],
        "sample_from_anchor": bool(raw.get("sample_from_anchor", False)),
        **{key: raw[key] for key in _SELECTOR_KEYS if key in raw},
    }
    # Otherwise sliding layers are causal and full ones are not, as in z-lab's.
    if raw.get("sliding_window_non_causal", is_dflash2):
        written["is_causal"] = False
    return written


def _shape(raw: RawConfig) -> dict[str, Any]:
    """The layers' config, with what was left out because it is the type's default."""
    layer = raw.get("transformer_layer_config")
    if not isinstance(layer, dict):
        raise LoadError("The drafter's config.json has no 'transformer_layer_config'.")
    model_type = layer.get("model_type", "qwen3")
    if model_type not in _LAYER_TYPES:
        raise UnsupportedFormat(
            f"This speculators drafter has layers of the type {model_type!r}, which is not "
            f"supported yet: choose one with {' or '.join(_LAYER_TYPES)} layers."
        )
    shape: dict[str, Any] = transformers_config(CONFIG_MAPPING[model_type], layer).to_dict()
    # Read by nobody there, but causality in z-lab's keys.
    shape.pop("is_causal", None)
    return shape


SPECULATORS = CheckpointFormat(
    name="speculators",
    to_zlab=_to_zlab,
    needless=("t2d", "verifier_norm.weight", "verifier_lm_head.weight"),
)
