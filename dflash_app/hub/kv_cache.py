"""What a target's caches hold, from its config.json alone: no tensor library, no network.

The shapes are those of transformers' dynamic caches, by which every family decodes here; a target
on the fast path holds the same numbers in buffers of `capacity.capacity_of` tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dflash_app.hub.model_config import (
    COMPRESSED,
    LINEAR,
    SLIDING,
    SPARSE,
    RawConfig,
    compress_rate,
    layer_types,
    of_layer,
    text_config,
)

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class LayerCache:
    """What one layer keeps.

    Attributes:
        token_size: numbers for each token.
        window: tokens that attention reaches back, its own included; None reaches all.
        state_size: numbers that do not depend on the length.
        step_size: numbers for each token of the last forward, kept until the next.
        entry_size: numbers for each `entry_rate` tokens.
        entry_rate: see `entry_size`.
        float32_size: numbers held in float32, whatever the rest is in.
    """

    token_size: int = 0
    window: int | None = None
    state_size: int = 0
    step_size: int = 0
    entry_size: int = 0
    entry_rate: int = 1
    float32_size: int = 0

    @property
    def holds_tokens_apart(self) -> bool:
        """Whether it can be cut at any length; what slides, recurs or is compressed cannot."""
        return self.window is None and not (self.state_size or self.entry_size)

    def num_bytes(self, length: int, item_bytes: int, step_width: int = 1) -> int:
        """Bytes after `length` tokens; a sliding layer keeps the step's own beside its window.

        Args:
            length: tokens read.
            item_bytes: of one number.
            step_width: tokens of the last forward.
        """
        if not length:
            return 0
        reach = length if self.window is None else min(length, self.window - 1 + step_width)
        numbers = self.token_size * reach + self.state_size + self.step_size * step_width
        numbers += self.entry_size * (length // self.entry_rate)
        return numbers * item_bytes + self.float32_size * _FLOAT32_BYTES


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What all layers keep.

    Attributes:
        layers: in order; one that reads another's keys keeps nothing.
    """

    layers: tuple[LayerCache, ...]

    @property
    def token_size(self) -> int:
        """Numbers that each further token adds for good, in layers that reach everything."""
        return sum(layer.token_size for layer in self.layers if layer.window is None)

    def num_bytes(self, length: int, item_bytes: int, step_width: int = 1) -> int:
        """Bytes after `length` tokens; see `LayerCache.num_bytes`."""
        return sum(layer.num_bytes(length, item_bytes, step_width) for layer in self.layers)

    def savepoint_bytes(self, length: int, item_bytes: int, step_width: int = 1) -> int:
        """Bytes of the layers that must be copied to go back to a length later."""
        mixed = (layer for layer in self.layers if not layer.holds_tokens_apart)
        return sum(layer.num_bytes(length, item_bytes, step_width) for layer in mixed)

    def largest_layer_bytes(self, length: int, item_bytes: int) -> int:
        """Bytes of the largest layer: it is there twice while it grows."""
        return max((layer.num_bytes(length, item_bytes) for layer in self.layers), default=0)


def cache_shape(raw: RawConfig) -> CacheShape:
    """What the caches of a target hold.

    Args:
        raw: its config.json, a multimodal wrapper's too.

    Raises:
        LoadError: the config does not say it.
    """
    text = text_config(raw)
    kinds = layer_types(text)
    shared = int(text.get("num_kv_shared_layers") or 0)
    layers = [_layer(of_layer(text, index, kind), kind, index) for index, kind in enumerate(kinds)]
    if shared:
        layers[-shared:] = [LayerCache()] * shared
    return CacheShape(tuple(layers))


def _layer(text: Mapping[str, Any], kind: str, index: int) -> LayerCache:
    build = _LAYERS.get(kind)
    if build is not None:
        return build(text, kind)
    if "kv_lora_rank" in text:
        return LayerCache(token_size=_latent_size(text, index))
    return LayerCache(token_size=_heads_size(text))


def _sliding(text: Mapping[str, Any], _: str) -> LayerCache:
    return LayerCache(token_size=_heads_size(text), window=int(text["sliding_window"]))


def _linear(text: Mapping[str, Any], _: str) -> LayerCache:
    """GatedDeltaNet: the last inputs of its convolution, and a state in float32."""
    key_size = int(text["linear_num_key_heads"]) * int(text["linear_key_head_dim"])
    num_heads, head_dim = int(text["linear_num_value_heads"]), int(text["linear_value_head_dim"])
    channels = 2 * key_size + num_heads * head_dim
    return LayerCache(
        state_size=channels * int(text["linear_conv_kernel_dim"]),
        step_size=channels,
        float32_size=num_heads * head_dim * int(text["linear_key_head_dim"]),
    )


def _compressed(text: Mapping[str, Any], kind: str) -> LayerCache:
    """DeepSeek-V4: a window of keys that are values too, an entry a window, and the open windows.

    Sparse layers have an indexer with entries of its own, and windows that overlap: two series.
    """
    rate, head_dim = compress_rate(text, kind), int(text["head_dim"])
    sizes = [head_dim] if kind == COMPRESSED else [head_dim, int(text["index_head_dim"])]
    series = 1 if kind == COMPRESSED else 2
    open_size = 2 * series * sum(sizes)  # values and gates
    overlap = rate * sum(sizes) if kind == SPARSE else 0
    return LayerCache(
        token_size=int(text["num_key_value_heads"]) * head_dim,
        window=int(text["sliding_window"]),
        state_size=open_size * (rate - 1) // 2 + overlap,  # a window is half full, on average
        step_size=open_size,
        entry_size=sum(sizes),
        entry_rate=rate,
        float32_size=overlap,
    )


_LAYERS: dict[str, Callable[[Mapping[str, Any], str], LayerCache]] = {
    SLIDING: _sliding,
    LINEAR: _linear,
    COMPRESSED: _compressed,
    SPARSE: _compressed,
}


def _latent_size(text: Mapping[str, Any], index: int) -> int:
    """Multi-head latent attention: one latent and one rotated key, and keys of an indexer."""
    size = int(text["kv_lora_rank"]) + int(text["qk_rope_head_dim"])
    kinds = text.get("indexer_types")
    indexed = "index_head_dim" in text and (kinds is None or kinds[index] == "full")
    return size + int(text["index_head_dim"]) if indexed else size


def _heads_size(text: Mapping[str, Any]) -> int:
    """Keys and values of all their heads."""
    return 2 * int(text["num_key_value_heads"]) * int(text["head_dim"])
