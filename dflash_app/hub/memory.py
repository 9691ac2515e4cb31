"""How much memory a pair needs, by arithmetic alone: before it is loaded, or even downloaded.

`MemoryNeed` counts what is held in tensors, and a reserve for what a step needs on top.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dflash_app.hub.capacity import FIRST_CAPACITY, capacity_of
from dflash_app.hub.fast_copies import FastPath, drafter_copies, target_copies
from dflash_app.hub.kv_cache import CacheShape, cache_shape
from dflash_app.hub.model_config import RawConfig, reading_config, text_config
from dflash_app.hub.step_memory import Step, graphs_bytes, step_of
from dflash_app.hub.weights import (
    FLOAT_BYTES,
    Headers,
    Weight,
    context_size,
    drafter_weights,
    tapped_size,
    target_weights,
    weight_bytes,
)

DEFAULT_CONTEXT = 4096
"""Tokens of prompt and answer that a need is told for, where nobody asks for another length."""
WAITING_TOKENS = 16
"""As `backends.torch.deferred.WAITING_TOKENS`; a test holds them equal."""


@dataclass(frozen=True, slots=True)
class Storing:
    """How a pair is to be held.

    Attributes:
        dtype: that it computes in: "float32", "bfloat16", "float16".
        quantization: of the target, see `weights.weight_bytes`.
        drafter_quantization: of the drafter.
        fast_target: None where the target decodes through transformers.
        fast_drafter: the same of the drafter.
        snapshot: caches go back by copies of themselves.
        writes_scores: attention writes its scores down in every family, as MLX does on the CPU.
    """

    dtype: str = "bfloat16"
    quantization: str | None = None
    drafter_quantization: str | None = None
    fast_target: FastPath | None = None
    fast_drafter: FastPath | None = None
    snapshot: bool = False
    writes_scores: bool = False


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What a pair takes on its device.

    Attributes:
        target_bytes: of the target's weights.
        drafter_bytes: of the drafter's; 0 without one.
        copies_bytes: of the fast path's copies, less the weights that they replace.
        cache: of the target.
        context_size: numbers that the drafter keeps for each token.
        waiting_size: numbers of states that wait to be projected, whatever the length.
        rotation_size: numbers in a row of the target's rotations; 0 where it keeps none.
        context_rotation_size: the same of the drafter's.
        mask_groups: rows of a mask for each token of a step; 0 where none are kept.
        item_bytes: of one number in the caches.
        static: the target's cache is in buffers of `capacity_of` tokens; the drafter's always is.
        snapshot: the target's cache is held twice.
        block_size: tokens of one verification.
        graphs_bytes: that CUDA graphs keep for their steps; arithmetic that no GPU has checked.
            Buffers that wait for the next cache with their graphs are not in it: the next cache
            takes them, and they are freed where memory is short.
        step: what a forward needs for a while.
        context_length: tokens that `total_bytes` is told for.
        max_context_length: that the target can hold at all.
    """

    target_bytes: int
    drafter_bytes: int
    copies_bytes: int
    cache: CacheShape
    context_size: int
    waiting_size: int
    rotation_size: int
    context_rotation_size: int
    mask_groups: int
    item_bytes: int
    static: bool
    snapshot: bool
    block_size: int
    graphs_bytes: int
    step: Step
    context_length: int
    max_context_length: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, as they are held."""
        return self.target_bytes + self.drafter_bytes + self.copies_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes at `context_length`, the reserve included."""
        return self.bytes_at(self.context_length)

    def bytes_at(self, length: int) -> int:
        """Bytes at most, at a length of prompt and answer together."""
        return self.held_bytes(length) + self.reserve_bytes(length)

    def held_bytes(self, length: int) -> int:
        """Bytes held between two steps: weights, caches and tables."""
        return self.weight_bytes + self.cache_bytes(length) + self.context_bytes(length)

    def cache_bytes(self, length: int) -> int:
        """Of the target's caches, rotations and masks included where they are kept."""
        if not length:
            return 0
        if self.static:
            capacity = self._capacity(length)
            masks = self.mask_groups * self.block_size if self.block_size > 1 else 0
            numbers = capacity * (self.cache.token_size + masks)
            return (numbers + _rows(capacity) * self.rotation_size) * self.item_bytes
        held = self.cache.num_bytes(length, self.item_bytes, self.block_size)
        return 2 * held if self.snapshot else held

    def context_bytes(self, length: int) -> int:
        """Of the drafter's context."""
        if not length or not self.context_size:
            return 0
        capacity = self._capacity(length)
        numbers = capacity * self.context_size + _rows(capacity) * self.context_rotation_size
        return (numbers + self.waiting_size) * self.item_bytes

    def reserve_bytes(self, length: int) -> int:
        """What steps need on top: to read a prompt, to grow caches, to go back, and for graphs."""
        if self.static:
            # A policy may take any narrower block, and each has a mask of its own.
            narrower = self.mask_groups * (self.block_size * (self.block_size - 1) // 2)
            kept = self._capacity(length) * narrower * self.item_bytes
        else:
            kept = self._savepoint_bytes(length)
        held = self.growing_bytes(length) + kept + self.graphs_bytes
        return self.step.num_bytes(length) + held

    def growing_bytes(self, length: int) -> int:
        """What is held twice for a while, where the target's cache or the drafter's grows."""
        capacity = self._capacity(length)
        before = capacity // 2 if capacity > FIRST_CAPACITY else 0
        context = before * self.context_size * self.item_bytes
        if self.static:
            return max(context, before * self.cache.token_size * self.item_bytes)
        return max(context, self.cache.largest_layer_bytes(length, self.item_bytes))

    def longest_context(self, free_bytes: int) -> int:
        """Most tokens of prompt and answer for which so many bytes are enough; 0 is none.

        Args:
            free_bytes: of the device, with nothing of the pair on it.
        """
        low, high = 0, self.max_context_length
        while low < high:
            middle = (low + high + 1) // 2
            if self.bytes_at(middle) <= free_bytes:
                low = middle
            else:
                high = middle - 1
        return low

    def alone(self) -> "MemoryNeed":
        """The same for lanes of the target alone: no context is kept and no block is verified."""
        return replace(self, context_size=0, waiting_size=0, block_size=1)

    def breakdown(self, length: int | None = None) -> tuple[tuple[str, int], ...]:
        """The parts of `bytes_at`, named, in the order in which they are added up."""
        length = self.context_length if length is None else length
        tokens = f"{length:,} tokens"
        parts = (
            ("target weights", self.target_bytes),
            ("drafter weights", self.drafter_bytes),
            ("copies for speed", self.copies_bytes),
            (f"target cache at {tokens}", self.cache_bytes(length)),
            (f"drafter cache at {tokens}", self.context_bytes(length)),
            ("reserve for a step", self.reserve_bytes(length)),
        )
        return tuple((name, num_bytes) for name, num_bytes in parts if num_bytes)

    def _capacity(self, length: int) -> int:
        """Of buffers that hold so many tokens and a block that may be rejected."""
        return capacity_of(length + self.block_size)

    def _savepoint_bytes(self, length: int) -> int:
        """Of what is copied to go back further than a step."""
        if self.snapshot:
            return self.cache.num_bytes(length, self.item_bytes, self.block_size)
        return self.cache.savepoint_bytes(length, self.item_bytes, self.block_size)


@reading_config()
def estimate(
    target: Headers,
    config: RawConfig,
    drafter: Headers | None,
    storing: Storing,
    *,
    block_size: int | None = None,
    context_length: int | None = None,
) -> MemoryNeed:
    """Add up what a pair will hold; reads nothing but its arguments.

    Args:
        target: the tensors of the target's files.
        config: the target's config.json.
        drafter: the tensors of the drafter's files; None for a target alone.
        storing: precision and path.
        block_size: anchor included; None counts as 16 with a drafter.
        context_length: None takes `DEFAULT_CONTEXT`, or what the target can hold.

    Raises:
        LoadError: the config does not say the target's shape, or has an odd value.
    """
    text, weights = text_config(config), target_weights(target, config)
    drafting = drafter_weights(drafter) if drafter is not None else []
    longest = int(text.get("max_position_embeddings") or DEFAULT_CONTEXT)
    width = (block_size or 16) if drafting else 1
    dtype, fast = storing.dtype, storing.fast_target
    copies = 0 if fast is None else target_copies(weights, config, fast, dtype)
    if storing.fast_drafter is not None:
        copies += drafter_copies(drafting, storing.fast_drafter, dtype)
    item_bytes, tapped = FLOAT_BYTES[dtype], tapped_size(drafting)
    step = step_of(
        text,
        drafting,
        width,
        item_bytes,
        makes_masks=fast is not None,
        writes_scores=storing.writes_scores,
    )
    head_dim = int(text["head_dim"])
    return MemoryNeed(
        target_bytes=weight_bytes(weights, dtype, storing.quantization),
        drafter_bytes=weight_bytes(drafting, dtype, storing.drafter_quantization),
        copies_bytes=copies,
        cache=cache_shape(config),
        context_size=context_size(drafting),
        waiting_size=WAITING_TOKENS * tapped,
        rotation_size=2 * head_dim if fast is not None else 0,
        context_rotation_size=2 * _head_dim(drafting) if storing.fast_drafter is not None else 0,
        mask_groups=_mask_groups(text) if fast is not None else 0,
        item_bytes=item_bytes,
        static=fast is not None,
        snapshot=storing.snapshot,
        block_size=width,
        graphs_bytes=graphs_bytes(
            step,
            width,
            (int(text.get("vocab_size") or 0) + tapped) * item_bytes,
            target=_captures(fast),
            drafter=bool(drafting) and _captures(storing.fast_drafter),
        ),
        step=step,
        context_length=min(longest, context_length or DEFAULT_CONTEXT),
        max_context_length=longest,
    )


def _captures(fast: FastPath | None) -> bool:
    return fast is not None and fast.graphs


def _mask_groups(text: Mapping[str, Any]) -> int:
    return int(text["num_attention_heads"]) // int(text["num_key_value_heads"])


def _rows(capacity: int) -> int:
    """Rotations that are held: steps may read the tables of every capacity on the way."""
    return 2 * capacity - FIRST_CAPACITY


def _head_dim(drafting: Iterable[Weight]) -> int:
    return max(
        (each.shape[0] for each in drafting if each.name.endswith("k_norm.weight")), default=0
    )
