"""DeepSpec's DFlash ("block7"): a DSpark model without its heads.

It drafts from the anchor slot on (7 slots, 7 drafts) and brings its own embedding and head.

Source: github.com/deepseek-ai/DeepSpec, deepspec/modeling/dspark/qwen3 and config/dflash.
"""

from typing import Any

from dflash_app.drafters.formats.checkpoint_format import CheckpointFormat
from dflash_app.drafters.marks import RawConfig


def _to_zlab(raw: RawConfig) -> dict[str, Any]:
    return {
        **raw,
        "architectures": ["DFlashDraftModel"],
        # The config never says it, but slot k was trained on the token after it.
        "sample_from_anchor": True,
        "is_causal": False,
    }


DEEPSPEC = CheckpointFormat(name="DeepSpec", to_zlab=_to_zlab)
