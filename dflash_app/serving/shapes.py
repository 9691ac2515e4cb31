"""What a plan has to know of a model: its size, its heads, and what its cache keeps for a token."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from dflash_app.errors import DFlashAppError, LoadError, PlanError
from dflash_app.hub.cache import is_here, resolve
from dflash_app.hub.estimates import FLOAT_BYTES, weights_by_name
from dflash_app.hub.kv_cache import cache_shape
from dflash_app.hub.model_config import reading_config, text_config
from dflash_app.hub.model_files import read_json, weight_files
from dflash_app.hub.needed import CONFIG
from dflash_app.hub.remote import ask_config, ask_model
from dflash_app.registry.pair import ModelRef
from dflash_app.serving.gpus import BYTES_PER_GB

Role = Literal["target", "drafter"]
Source = Literal["its files here", "the hub", "published shapes", "its name", "your figure"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A model as a plan sees it; None where nobody tells.

    Attributes:
        weights_bytes: as stored, which is what engines load.
        source: where `weights_bytes` is from.
        num_heads: of its attention.
        num_kv_heads: 1 for a latent that every GPU has to keep whole.
        linear_heads: other numbers of heads that tensor parallelism has to divide.
        token_size: numbers that its cache keeps for each further token, in all layers.
        context_length: tokens that it can hold.
        window: tokens that all of its layers reach back; None where one reaches everything.
    """

    weights_bytes: int
    source: Source
    num_heads: int | None = None
    num_kv_heads: int | None = None
    linear_heads: tuple[int, ...] = ()
    token_size: int | None = None
    context_length: int | None = None
    window: int | None = None

    @property
    def token_bytes(self) -> int | None:
        """Bytes of cache that each further token takes in bf16, on all GPUs together."""
        return None if self.token_size is None else self.token_size * FLOAT_BYTES


def shape_of(ref: ModelRef, role: Role, *, online: bool, weights_gb: float | None = None) -> Shape:
    """Find out what can be known of a model; asks the hub only where it is not here.

    Args:
        ref: where it is.
        role: "target" or "drafter".
        online: False asks nobody.
        weights_gb: what the user says it takes, which wins.

    Raises:
        PlanError: nobody tells how large it is.
    """
    shape = _looked_up(ref, role, online)
    if weights_gb is not None:
        size = int(weights_gb * BYTES_PER_GB)
        known = shape or Shape(size, "your figure")
        return replace(known, weights_bytes=size, source="your figure")
    if shape is None:
        raise PlanError(
            f"The size of {ref.source} is not known here: ask the hub (without --offline), or "
            f"give it with --{'drafter-' if role == 'drafter' else ''}weights-gb."
        )
    return shape


def _looked_up(ref: ModelRef, role: Role, online: bool) -> Shape | None:
    """From the surest source that answers."""
    if is_here(ref) or ref.repo is None:
        folder = resolve(ref)
        size = sum(path.stat().st_size for path in weight_files(folder))
        return _from_config(read_json(folder / CONFIG), role, size, "its files here")
    if online:
        try:
            model = ask_model(ref.repo, ref.revision)
            config = ask_config(ref.repo, model.commit)
            if model.weights:
                return _from_config(config, role, sum(model.weights.values()), "the hub")
        except DFlashAppError:
            pass  # gated, or out of reach: what was published will do, and the plan says so
    return _recorded(ref, role)


@reading_config()
def _from_config(config: Mapping[str, Any], role: Role, size: int, source: Source) -> Shape:
    """A shape by a config.json.

    Raises:
        LoadError: it has an odd value.
    """
    if role == "drafter":
        return _drafter_shape(config, size, source)
    text = text_config(config)
    latent = "kv_lora_rank" in text
    linear = [text.get(key) for key in ("linear_num_key_heads", "linear_num_value_heads")]
    return Shape(
        weights_bytes=size,
        source=source,
        num_heads=int(text["num_attention_heads"]),
        num_kv_heads=1 if latent else int(text["num_key_value_heads"]),
        linear_heads=tuple(int(heads) for heads in linear if heads),
        token_size=_token_size(config),
        context_length=_whole(text.get("max_position_embeddings")),
    )


def _token_size(config: Mapping[str, Any]) -> int | None:
    try:
        return cache_shape(config).token_size
    except LoadError:
        return None


def _drafter_shape(config: Mapping[str, Any], size: int, source: Source) -> Shape:
    heads, layers = _whole(config.get("num_attention_heads")), config.get("num_hidden_layers")
    kv_heads, kinds = _whole(config.get("num_key_value_heads")), config.get("layer_types") or []
    head_dim = config.get("head_dim")
    slides = bool(kinds) and set(kinds) == {"sliding_attention"}
    return Shape(
        weights_bytes=size,
        source=source,
        num_heads=heads,
        num_kv_heads=kv_heads,
        token_size=2 * int(layers) * kv_heads * int(head_dim)
        if layers and kv_heads and head_dim
        else None,
        context_length=_whole(config.get("max_position_embeddings")),
        window=_whole(config.get("sliding_window")) if slides else None,
    )


def _recorded(ref: ModelRef, role: Role) -> Shape | None:
    """By `shapes.yaml`, the registry's size and the name."""
    row = _rows()[f"{role}s"].get(ref.source, {})
    size, source = ref.size_bytes, "published shapes"
    if size is None and "weights_gb" in row:
        size = int(row["weights_gb"] * BYTES_PER_GB)
    if size is None and role == "target":
        size, source = weights_by_name(ref), "its name"
    if size is None:
        return None
    layers = row.get("kv_layers", row.get("layers"))
    kv_heads, head_dim, latent = row.get("kv_heads"), row.get("head_dim"), row.get("latent")
    token_size = None
    if layers and latent:
        token_size = layers * latent
    elif layers and kv_heads and head_dim:
        token_size = 2 * layers * kv_heads * head_dim
    return Shape(
        weights_bytes=size,
        source="its name" if source == "its name" else "published shapes",
        num_heads=row.get("heads"),
        num_kv_heads=1 if latent else kv_heads,
        linear_heads=tuple(row.get("linear_heads", ())),
        token_size=token_size,
        context_length=row.get("context"),
        window=row.get("window"),
    )


@cache
def _rows() -> dict[str, dict[str, Any]]:
    text = Path(__file__).with_name("shapes.yaml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return rows


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
