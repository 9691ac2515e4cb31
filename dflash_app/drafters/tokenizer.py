"""A target's tokenizer, which its drafter shares."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dflash_app.drafters.transformers_calls import DAMAGE, first_line, quiet_transformers
from dflash_app.errors import LoadError

_AutoTokenizer: Any = AutoTokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Read a tokenizer and its chat template; no remote code, no network.

    Args:
        folder: the target's.

    Raises:
        LoadError: it is absent or damaged.
    """
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = _AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except DAMAGE as error:
        raise LoadError(
            f"The tokenizer in {folder} cannot be loaded; download the target again "
            f"({first_line(error)})."
        ) from error
    return tokenizer
