"""A target's config.json with everything said that mlx-lm would otherwise guess.

transformers leaves out of the file what is its class's default, and mlx-lm has defaults of its own:
a Llama without `tie_word_embeddings` has a head of its own for one and none for the other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dflash_app.backends.mlx.families import check_family, mlx_lm_name
from dflash_app.drafters.transformers_calls import DAMAGE, first_line
from dflash_app.errors import LoadError
from dflash_app.hub.model_files import read_json


def read_config(folder: Path) -> dict[str, Any]:
    """Read a target's config.json for mlx-lm.

    Raises:
        LoadError: it is absent or damaged, or says what its family cannot be.
        UnsupportedFormat: mlx-lm cannot run the family as it should.
    """
    raw = read_json(folder / "config.json")
    check_family(raw)
    try:
        config = _filled(raw, _defaults(raw))
    except DAMAGE as error:
        raise LoadError(
            f"{folder / 'config.json'} is no valid config; download the target again "
            f"({first_line(error)})."
        ) from error
    text = config.get("text_config")
    if isinstance(text, dict):
        _say_rope_in_old_words(text)
        config.setdefault("vocab_size", text.get("vocab_size"))
    _say_rope_in_old_words(config)
    if raw["model_type"].startswith("gemma4_unified"):
        # It has none of these, and mlx-lm takes another gemma4's.
        for key in ("hidden_size_per_layer_input", "num_kv_shared_layers"):
            (text or config).setdefault(key, 0)
    config["model_type"] = mlx_lm_name(config["model_type"])
    return config


def eos_ids(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """Tokens that end a turn, by both configs; generation_config.json may list several."""
    generation = folder / "generation_config.json"
    parts = [config, config.get("text_config") or {}]
    if generation.exists():
        parts.append(read_json(generation))
    found: set[int] = set()
    for part in parts:
        ids = part.get("eos_token_id")
        found.update([ids] if isinstance(ids, int) else ids or ())
    return frozenset(found)


def _defaults(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers takes where the file says nothing; nothing where it has no such family."""
    from transformers import CONFIG_MAPPING

    if raw["model_type"] not in CONFIG_MAPPING:
        return {}
    said = {key: value for key, value in raw.items() if not key.startswith("quantization")}
    config = CONFIG_MAPPING[raw["model_type"]].from_dict(said)
    # Where a key has two spellings, files have either.
    spellings = {name: getattr(config, name, None) for name in config.attribute_map}
    return {**config.to_dict(), **spellings}


def _filled(said: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    filled = {**defaults, **said}
    for key, value in said.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            filled[key] = _filled(value, defaults[key])
    return filled


def _say_rope_in_old_words(config: dict[str, Any]) -> None:
    """Say at the top, where most of mlx-lm reads it, what transformers 5 nests."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope:
        return  # none, or one for each layer type, which mlx-lm reads as it is
    config.setdefault("rope_theta", rope["rope_theta"])
    if "partial_rotary_factor" in rope:
        config.setdefault("partial_rotary_factor", rope["partial_rotary_factor"])
    if rope.get("rope_type", "default") != "default" and not config.get("rope_scaling"):
        config["rope_scaling"] = dict(rope)
