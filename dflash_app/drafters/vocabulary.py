"""Which tokens a model folder's tokenizer.json names, and whether a drafter's agree."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_NAME = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of one tokenizer.

    Attributes:
        names: by token id.
        added: ids of tokens that were added beside the trained ones: control tokens and spares.
    """

    names: Mapping[int, str]
    added: frozenset[int]


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The vocabulary of a folder's tokenizer.json; None where there is none that can be read.

    Whether a tokenizer is whole is found out where it is loaded; here it is only compared.
    """
    try:
        said = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        names = _trained(said["model"].get("vocab") or {})
        added = {int(token["id"]): str(token["content"]) for token in said.get("added_tokens", ())}
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError,
    ):  # fmt: skip
        return None
    return Vocabulary(names | added, frozenset(added))


def _trained(vocab: Any) -> dict[int, str]:
    """Token names by id: most models store an id by name, Unigram a list of (name, score)."""
    if isinstance(vocab, list):
        return {index: str(entry[0]) for index, entry in enumerate(vocab)}
    return {int(index): str(name) for name, index in vocab.items()}


def disagreement(drafters: Vocabulary, targets: Vocabulary, mask_token_id: int) -> str | None:
    """Why a drafter's tokenizer is not the target's, in one sentence; None where it is.

    The mask's row may be called otherwise, and either may name spare rows that the other does not.

    Args:
        drafters: of the drafter's folder.
        targets: of the target's folder.
        mask_token_id: the drafter's.
    """
    common = (drafters.names.keys() & targets.names.keys()) - {mask_token_id}
    differing = [index for index in common if drafters.names[index] != targets.names[index]]
    if not differing and common:
        return None
    first = min(differing, default=0)
    names = [vocabulary.names.get(first) for vocabulary in (drafters, targets)]
    return (
        f"The drafter's tokenizer is not the target's (token {first} is {names[0]!r} there and "
        f"{names[1]!r} here, {len(differing)} differ): choose the drafter that was trained for "
        "this target."
    )


def ordinary_mask(targets: Vocabulary, mask_token_id: int) -> str | None:
    """A warning where the drafter's mask is a token that text is made of; None where it is not."""
    name = targets.names.get(mask_token_id)
    if name is None or mask_token_id in targets.added:
        return None
    return (
        f"The drafter's mask token {mask_token_id} is the ordinary token {name!r} of this target: "
        "expect few accepted drafts, or choose a drafter whose mask is a reserved token."
    )
