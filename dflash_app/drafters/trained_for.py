"""Which target a drafter says it was trained for."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

MAX_CARD_CHARS = 100_000
_REPO = re.compile(r"\w[\w.-]*/[\w.-]+")
_HUB_FOLDER = re.compile(r"models--([\w.-]+?)--([\w.-]+)")


def trained_for(folder: Path, raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Repositories that a drafter names as its target, the surest first; often none.

    Args:
        folder: the drafter's.
        raw: its parsed config.json: speculators names the target there, others in the card.
    """
    named = [_verifier(raw), *_base_models(folder / "README.md")]
    # A drafter that was trained further names the one it began with.
    targets = [name for name in named if _REPO.fullmatch(name) and "dflash" not in name.lower()]
    return tuple(dict.fromkeys(targets))


def repo_of(folder: Path) -> str | None:
    """The repository whose download a folder is, told by its path in the hub's cache."""
    for part in folder.parts:
        if match := _HUB_FOLDER.fullmatch(part):
            return f"{match[1]}/{match[2]}"
    return None


def _verifier(raw: Mapping[str, Any]) -> str:
    said = raw.get("speculators_config")
    verifier = said.get("verifier") if isinstance(said, dict) else None
    return str(verifier.get("name_or_path")) if isinstance(verifier, dict) else ""


def _base_models(card: Path) -> list[str]:
    """`base_model` of a model card's front matter, which holds one name or a list."""
    try:
        with card.open(encoding="utf-8") as file:
            _, front, _ = file.read(MAX_CARD_CHARS).split("---", 2)
        said = yaml.safe_load(front)["base_model"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError, yaml.YAMLError):
        return []
    # Texts only: str() of nested aliases would grow without bound.
    return [name for name in (said if isinstance(said, list) else [said]) if isinstance(name, str)]
