"""transformers' own DFlash: `muse_glimmer_assistant`.

Source: transformers 5.23, models/muse_glimmer_assistant.
"""

from typing import Any

from transformers import MuseGlimmerAssistantConfig

from dflash_app.drafters.config import transformers_config
from dflash_app.drafters.formats.checkpoint_format import CheckpointFormat
from dflash_app.drafters.marks import RawConfig


def _to_zlab(raw: RawConfig) -> dict[str, Any]:
    # transformers leaves out of the file what is its default.
    config: dict[str, Any] = transformers_config(MuseGlimmerAssistantConfig, raw).to_dict()
    return {
        **config,
        "architectures": ["DFlashDraftModel"],
        "model_type": "qwen3",
        "is_causal": False,
        "use_sliding_window": True,
        # There a key at the window's distance is still seen.
        "sliding_window": config["sliding_window"] + 1,
    }


MUSE_ASSISTANT = CheckpointFormat(
    name="muse_glimmer_assistant",
    to_zlab=_to_zlab,
    renamed={
        "encoder.fc.weight": "fc.weight",
        "encoder.output_norm_enc.weight": "hidden_norm.weight",
    },
)
