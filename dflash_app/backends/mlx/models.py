"""Target and drafter in memory on one device, and the lanes opened on them."""

import gc
from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx

from dflash_app.backends.mlx.context import ContextCache
from dflash_app.backends.mlx.dflash import DFlashDrafter
from dflash_app.backends.mlx.lane import MlxLane
from dflash_app.backends.mlx.memory import FOR_MLX, MemoryLimits, free_bytes
from dflash_app.backends.mlx.rollback import needs_savepoints
from dflash_app.backends.mlx.target import MlxTarget
from dflash_app.backends.mlx.weights import weight_bytes
from dflash_app.engine.prefix import PrefixSlot
from dflash_app.errors import RequestError
from dflash_app.hub.memory import MemoryNeed
from dflash_app.hub.room import turn_refusal
from dflash_app.request import MAX_BLOCK_SIZE, Mode, SamplingParams, check_drafting

MLX_PATH = "mlx-lm's caches"


class MlxModels:
    """`engine.protocol.LoadedModels`.

    Args:
        target: may be shared with other models.
        drafter: None decodes plainly only.
        eos_ids: tokens that end a turn beside those that the target's configs name.
        device: "cpu" or "gpu".
        drafter_quantization: what the drafter's weights are stored as.
        limits: of the device's memory, where it has any.
        need: of the pair, by the arithmetic; None where it is not known.
        room: a sentence where the usual context does not fit.
    """

    def __init__(
        self,
        target: MlxTarget,
        drafter: DFlashDrafter | None,
        eos_ids: Iterable[int] = (),
        *,
        device: str = "cpu",
        drafter_quantization: str | None = None,
        limits: MemoryLimits | None = None,
        need: MemoryNeed | None = None,
        room: str | None = None,
    ) -> None:
        self._limits, self._need = limits, need
        self._target: MlxTarget | None = target
        self._drafter = drafter
        self.context_length = target.context_length
        self.block_size = drafter.config.block_size if drafter is not None else None
        # Its layers take any width: what is above the trained one is an experiment, and said.
        self.max_block_size = MAX_BLOCK_SIZE if drafter is not None else None
        self.eos_ids = target.eos_ids | frozenset(eos_ids)
        self.device = device
        self.dtype = str(target.dtype).removeprefix("mlx.core.")
        self.rollback_kind: str = target.rollback_kind
        self.quantization = target.quantization
        self.drafter_quantization = drafter_quantization
        # mlx-lm's own modules and caches, which grow in steps; the drafter's likewise.
        self.path = MLX_PATH
        self.drafter_path = None if drafter is None else MLX_PATH
        said = (
            _rounding_warning(self.dtype),
            room,
            _width_warning(target.quantization) if drafter is not None else None,
        )
        self.warnings = tuple(sentence for sentence in said if sentence)
        self.need_savepoints = needs_savepoints(target.new_cache())
        self._left_by_last_lane: PrefixSlot[ContextCache] = PrefixSlot()

    @property
    def target(self) -> MlxTarget:
        """The target.

        Raises:
            RequestError: the models are closed.
        """
        if self._target is None:
            raise RequestError("The pair is no longer loaded: load it again.")
        return self._target

    def open_lane(
        self,
        sampling: SamplingParams,
        mode: Mode,
        block_size: int | None = None,
        prompt_ids: Sequence[int] | None = None,
    ) -> MlxLane:
        """Open a lane; what the last one left is reused or freed.

        Args:
            sampling: how tokens are drawn.
            mode: "ar" needs no drafter.
            block_size: None takes the drafter's own.
            prompt_ids: what the lane will read, to reuse what it can of it and to leave its caches
                to the next lane; None starts with nothing and leaves nothing.

        Raises:
            RequestError: the mode needs a drafter and none is loaded, or the block is too large.
        """
        if mode == "ar":
            return self._lane(None, sampling, None, prompt_ids)
        check_drafting(block_size, self.max_block_size)
        return self._lane(self._drafter, sampling, block_size, prompt_ids)

    def next_logits(self, token_ids: Sequence[int], candidates: Sequence[int]) -> tuple[float, ...]:
        """The target's own logits of `candidates` after `token_ids`, from one plain forward."""
        ids = mx.array(list(token_ids), dtype=mx.int32)
        logits, _ = self.target.forward(ids, self.target.new_cache(), 1)
        chosen: Any = logits[0, mx.array(list(candidates))].astype(mx.float32).tolist()
        return tuple(chosen)

    def memory_bytes(self) -> int:
        """Bytes held in weights (target and drafter)."""
        held = 0 if self._target is None else self._target.memory_bytes()
        if self._drafter is not None:
            held += weight_bytes(self._drafter)
        return held

    def no_room_reason(self, lengths: Sequence[int], *, drafting: bool = True) -> str | None:
        """Why lanes of so many tokens do not fit; see `MemoryKeeper`."""
        free = free_bytes(self._limits)
        if self._need is None or free is None:
            return None
        kept = self._left_by_last_lane.length
        reusable = self._need.cache_bytes(kept) + self._need.context_bytes(kept)
        need = self._need if drafting else self._need.alone()
        return turn_refusal(need, lengths, free + reusable, FOR_MLX)

    def free_unused(self) -> None:
        """Free what the last lane left and MLX's buffers; see `MemoryKeeper`."""
        self._left_by_last_lane = PrefixSlot()
        gc.collect()
        mx.clear_cache()

    def close(self) -> None:
        """Free the weights and what a lane left; a target that other models share stays."""
        self._target = self._drafter = None
        self._left_by_last_lane = PrefixSlot()
        gc.collect()
        mx.clear_cache()

    def _lane(
        self,
        drafter: DFlashDrafter | None,
        sampling: SamplingParams,
        block_size: int | None,
        prompt_ids: Sequence[int] | None,
    ) -> MlxLane:
        slot = self._left_by_last_lane
        prefix = slot.take(prompt_ids or (), drafting=drafter is not None)
        alone = prompt_ids is not None  # what starts with nothing may be one lane of a race
        leave_to = slot if alone else None
        return MlxLane(
            self.target,
            drafter,
            sampling,
            block_size,
            prefix=prefix,
            slot=leave_to,
            alone=alone,
        )


def _width_warning(quantization: str | None) -> str | None:
    if quantization is None:
        return None
    return (
        f"With weights in {quantization}, checking a wide block may cost more than it gains: "
        "adaptive drafts measure that on this machine, and a block size of 5 is z-lab's advice."
    )


def _rounding_warning(dtype: str) -> str | None:
    if dtype == "float32":
        return None
    return (
        f"In {dtype}, DFlash and plain decoding may differ where two tokens are nearly tied, as "
        "any two batch sizes may: comparing tells by the margin of their logits."
    )
