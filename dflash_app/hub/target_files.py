"""What a target's folder says beside its weights: its chat template, how its makers sample."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dflash_app.registry.pair import Sampling

_MAX_BYTES = 8_000_000
"""Larger files are no configuration."""

_CUTS = ("top_p", "top_k", "min_p", "repetition_penalty")


def read_chat_template(folder: Path) -> str | None:
    """The Jinja source of a target's default chat template; None where it has none.

    Args:
        folder: of the target.
    """
    own = _read(folder / "chat_template.jinja")
    if own is not None:
        return own
    template = _read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):  # several by name, as older tokenizers have them
        pieces = [each for each in template if isinstance(each, dict)]
        named = (each.get("template") for each in pieces if each.get("name") == "default")
        template = next(named, None)
    return template if isinstance(template, str) else None


def read_sampling(folder: Path) -> Sampling | None:
    """How a target's own generation_config.json samples.

    Args:
        folder: of the target.

    Returns:
        None where the file is absent, says nothing, or says something impossible.
    """
    config = _read_json(folder / "generation_config.json")
    if not config.get("do_sample"):
        return None
    values = {name: config[name] for name in _CUTS if config.get(name) is not None}
    try:
        return Sampling(temperature=config.get("temperature") or 1.0, **values)
    except ValidationError:
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(path) or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _read(path: Path) -> str | None:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
