"""What a target's config.json says of its shape, with the defaults of its family filled in.

Only what memory depends on, without transformers: the hub's fit is told before anything is loaded.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dflash_app.errors import LoadError

RawConfig = Mapping[str, Any]
"""A parsed config.json."""

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
COMPRESSED, SPARSE = "heavily_compressed_attention", "compressed_sparse_attention"

_GATED_DELTA: dict[str, Any] = {
    "head_dim": 256,
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
_GEMMA: dict[str, Any] = {
    "head_dim": 256,
    "global_head_dim": 512,
    "sliding_window": 512,
    "attention_k_eq_v": True,
    "tie_word_embeddings": True,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 128},
    "gpt_oss": {"head_dim": 64, "num_key_value_heads": 8, "sliding_window": 128},
    "gemma4": _GEMMA,
    "gemma4_unified": _GEMMA,
    "muse_glimmer": {"head_dim": 128, "num_key_value_heads": 2, "sliding_window": 2048},
    "minimax_m2": {"head_dim": 128, "num_key_value_heads": 8},
    "deepseek_v3": {"kv_lora_rank": 512, "qk_rope_head_dim": 64},
    "glm_moe_dsa": {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "index_head_dim": 128},
    "deepseek_v4": {
        "head_dim": 512,
        "num_key_value_heads": 1,
        "sliding_window": 128,
        "index_head_dim": 128,
    },
    "qwen3_next": {**_GATED_DELTA, "num_key_value_heads": 2},
    "qwen3_5": {**_GATED_DELTA, "num_key_value_heads": 4},
    "qwen3_5_moe": {**_GATED_DELTA, "num_key_value_heads": 2},
}
"""By family, of transformers 5.23; what published configs leave out."""

_PATTERNS: dict[str, Callable[[int, int], str]] = {
    "gpt_oss": lambda index, left: FULL if index % 2 else SLIDING,
    "gemma4": lambda index, left: SLIDING if (index + 1) % 6 else FULL,
    "gemma4_unified": lambda index, left: SLIDING if (index + 1) % 6 else FULL,
    "muse_glimmer": lambda index, left: SLIDING if left % 4 else FULL,
    "deepseek_v4": lambda index, left: SPARSE if index % 2 and index > 1 else COMPRESSED,
}
"""A layer's type by its index and the number of layers after it, as transformers fills it in."""
UNPACKED = ("mxfp4", "fp8", "compressed-tensors")
"""Methods whose checkpoints are unpacked while they load: see `backends.torch.quantization`."""
_FAST_FAMILIES = ("qwen3", "llama")
_FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")
_COMPRESS_RATES = {SPARSE: 4, COMPRESSED: 128}
_BY_RATIO = {0: SLIDING, 4: SPARSE, 128: COMPRESSED}


_ODD = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What reading a config raises whose values are of another kind than published ones."""


@contextmanager
def reading_config() -> Iterator[None]:
    """Say of a value that nobody can use where it is; also a decorator.

    Raises:
        LoadError: instead of what reading it raises.
    """
    try:
        yield
    except _ODD as error:
        said = f"{type(error).__name__}: {str(error)[:200]}"
        raise LoadError(
            f"The target's config.json has a value that cannot be used ({said}): download it again."
        ) from error


def text_config(raw: RawConfig) -> dict[str, Any]:
    """The text model's keys, defaults included, whether the config is a wrapper's or its own.

    Args:
        raw: a target's config.json.

    Raises:
        LoadError: it does not say how many layers there are, or how wide they are.
    """
    nested = raw.get("text_config")
    said = {**raw, **nested} if isinstance(nested, Mapping) else dict(raw)
    family = str(said.get("model_type", "")).removesuffix("_text")
    known = {key: value for key, value in said.items() if value is not None}
    text = {**_DEFAULTS.get(family, {}), **known, "family": family}
    for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"):
        if not isinstance(text.get(name), int) or text[name] < 1:
            raise LoadError(f"The target's config.json has no whole number {name!r}.")
    text.setdefault("num_key_value_heads", text["num_attention_heads"])
    text.setdefault("head_dim", text["hidden_size"] // text["num_attention_heads"])
    return text


def layer_types(text: Mapping[str, Any]) -> list[str]:
    """What each layer attends to.

    Args:
        text: from `text_config`.
    """
    count, family = int(text["num_hidden_layers"]), text["family"]
    said = text.get("layer_types")
    kinds = [str(kind) for kind in said[:count]] if said else _usual_types(text, family, count)
    if family in ("gemma4", "gemma4_unified") and kinds:
        kinds[-1] = FULL
    return kinds


def of_layer(text: Mapping[str, Any], index: int, kind: str) -> Mapping[str, Any]:
    """A layer's own keys, where a family has layers of several shapes.

    Args:
        text: from `text_config`.
        index: of the layer.
        kind: its type.
    """
    own = text.get("per_layer_config")
    if isinstance(own, Mapping):
        return {**text, **(own.get(str(index)) or {})}
    if kind != FULL or "global_head_dim" not in text:
        return text
    # As Gemma 4 is published: its full layers are of another shape.
    changed = {**text, "head_dim": text["global_head_dim"]}
    num_heads = text.get("num_global_key_value_heads")
    if num_heads and text["attention_k_eq_v"]:
        changed["num_key_value_heads"] = num_heads
    return changed


def compress_rate(text: Mapping[str, Any], kind: str) -> int:
    """Tokens that become one entry, in a compressed layer of DeepSeek-V4.

    Args:
        text: from `text_config`.
        kind: the layer's type.
    """
    short = {SPARSE: "compress_rate_csa", COMPRESSED: "compress_rate_hca"}
    rates = text.get("compress_rates") or {}
    return int(rates.get(kind) or text.get(short[kind]) or _COMPRESS_RATES[kind])


def ties_embeddings(raw: RawConfig) -> bool:
    """Whether the head is the embedding, as `target.load_target` takes it."""
    return bool(raw.get("tie_word_embeddings") or text_config(raw).get("tie_word_embeddings"))


@reading_config()
def goes_fast(raw: RawConfig) -> bool:
    """Whether the fast path decodes a target that is not quantised on load.

    Args:
        raw: its config.json; `backends.torch.fast.why_not` looks at the loaded model itself.

    Raises:
        LoadError: it has an odd value.
    """
    text = text_config(raw)
    quantised = raw.get("quantization_config") or {}
    rotation = text.get("rope_parameters") or text.get("rope_scaling") or {}
    kind = rotation.get("rope_type") or rotation.get("type") or "default"
    return (
        raw.get("model_type") in _FAST_FAMILIES
        and (not quantised or quantised.get("quant_method") in UNPACKED)
        and set(layer_types(text)) == {FULL}
        and text.get("hidden_act", "silu") == "silu"
        and kind in _FIXED_ROTATIONS
    )


def _usual_types(text: Mapping[str, Any], family: str, count: int) -> list[str]:
    """The layers where a config does not list them."""
    ratios = text.get("compress_ratios")
    if family == "deepseek_v4" and ratios:
        return [_BY_RATIO.get(ratio, COMPRESSED) for ratio in ratios[:count]]
    if "full_attention_interval" in text:
        interval = int(text["full_attention_interval"])
        return [LINEAR if (index + 1) % interval else FULL for index in range(count)]
    if family not in _PATTERNS and text.get("use_sliding_window") and text.get("sliding_window"):
        first = int(text.get("max_window_layers", 0))
        return [SLIDING if index >= first else FULL for index in range(count)]
    rule = _PATTERNS.get(family)
    return [rule(index, count - 1 - index) if rule else FULL for index in range(count)]
