"""Which files of a repository a model needs: what the app reads, and nothing that could run."""

import json
import re
from collections.abc import Collection

from dflash_app.errors import HubError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

_TEXTS = re.compile(
    r"config\.json|generation_config\.json|chat_template\.(jinja|json)"
    r"|tokenizer\.(json|model)|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json"
    r"|vocab\.(json|txt)|merges\.txt|spiece\.model|[\w-]+\.tiktoken|tiktoken\.model"
)
_WEIGHTS = re.compile(r"[\w.-]+\.safetensors")
_CARD = "README.md"
"""Of a drafter: its front matter names the target it was trained for."""


def needed_files(repo: str, names: Collection[str], index: str | None, *, role: str) -> list[str]:
    """The files to download, config.json last: a snapshot with it is complete.

    Args:
        repo: its id, for the message.
        names: every file of the repository.
        index: text of model.safetensors.index.json where the repository has one.
        role: "target" or "drafter".

    Raises:
        HubError: there is no config.json, or there are no safetensors, or the index is damaged.
    """
    if CONFIG not in names:
        raise HubError(f"{repo} has no config.json: it holds no model that this app can load.")
    texts = [name for name in names if name != CONFIG and _TEXTS.fullmatch(name)]
    if role == "drafter" and _CARD in names:
        texts.append(_CARD)
    return [*sorted(texts), *_weights(repo, names, index), CONFIG]


def _weights(repo: str, names: Collection[str], index: str | None) -> list[str]:
    if index is not None:
        return [WEIGHTS_INDEX, *_shards(repo, names, index)]
    if WEIGHTS in names:
        return [WEIGHTS]
    found = sorted(name for name in names if _WEIGHTS.fullmatch(name))
    if not found:
        raise HubError(
            f"{repo} has no .safetensors file, and other weight files (.bin, .pt) are never opened "
            "because they can run code: choose a model with safetensors."
        )
    return found


def _shards(repo: str, names: Collection[str], index: str) -> list[str]:
    try:
        shards = sorted({str(name) for name in json.loads(index)["weight_map"].values()})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise HubError(
            f"{repo} has a {WEIGHTS_INDEX} that cannot be read: choose another revision."
        ) from error
    for shard in shards:
        # A downloaded index must not lead to any other place.
        if not _WEIGHTS.fullmatch(shard) or shard not in names:
            raise HubError(
                f"{repo} lacks {shard[:80]!r}, which its {WEIGHTS_INDEX} names: choose another "
                "revision."
            )
    return shards
