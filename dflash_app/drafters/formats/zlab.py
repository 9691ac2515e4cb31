"""z-lab's own format, of both generations; Model-Optimizer and SpecForge write it too.

Model-Optimizer states causality and windows in `dflash_config` (`causal`, `use_swa`), which
`attention_rule` reads; SpecForge adds an `auto_map` to Python files, which nobody follows.
"""

from typing import Any

from dflash_app.drafters.formats.checkpoint_format import CheckpointFormat
from dflash_app.drafters.marks import RawConfig


def _without_code(raw: RawConfig) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key != "auto_map"}


ZLAB = CheckpointFormat(
    name="z-lab",
    to_zlab=_without_code,
    renamed={
        # As transformers writes what z-lab's class holds; published files lack the ending.
        f"candidate_selector.{codebook}.weight": f"candidate_selector.{codebook}"
        for codebook in ("predecessor_codebook", "successor_codebook")
    },
)
