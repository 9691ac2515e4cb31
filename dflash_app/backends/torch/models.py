"""Target and drafter in memory on one device, and the lanes opened on them."""

import gc
from collections.abc import Iterable, Sequence

import torch

from dflash_app.backends.torch.drafting import Drafter, DraftingContext
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.memory import free_bytes, free_spare, held_bytes, spare_bytes
from dflash_app.backends.torch.savepoint import needs_savepoints
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.engine.prefix import PrefixSlot
from dflash_app.engine.speculative import PREFILL_CHUNK
from dflash_app.errors import RequestError
from dflash_app.hub.memory import MemoryNeed
from dflash_app.hub.room import turn_refusal
from dflash_app.request import MAX_BLOCK_SIZE, Mode, SamplingParams, check_drafting


class TorchModels:
    """`engine.protocol.LoadedModels`.

    Args:
        target: may be shared with other models of the same worker.
        drafter: None decodes plainly only.
        eos_ids: tokens that end a turn beside those that the target's configs name.
        drafter_quantization: what the drafter's weights are stored as.
        need: what it takes by the arithmetic; None where that is not known.
    """

    def __init__(
        self,
        target: TorchTarget,
        drafter: Drafter | None,
        eos_ids: Iterable[int] = (),
        *,
        drafter_quantization: str | None = None,
        need: MemoryNeed | None = None,
    ) -> None:
        self._target: TorchTarget | None = target
        self._drafter = drafter
        # Of closed models: a run that ends with them still records how it was decoded.
        self._last_path = target.path
        self._last_drafter_path: str | None = None
        self.context_length = target.context_length
        self.block_size = drafter.config.block_size if drafter is not None else None
        # Its layers take any width: what is above the trained one is an experiment, and said.
        self.max_block_size = MAX_BLOCK_SIZE if drafter is not None else None
        self.eos_ids = target.eos_ids() | frozenset(eos_ids)
        self.device = target.devices
        self.dtype = str(target.dtype).removeprefix("torch.")
        self.rollback_kind: str = target.rollback_kind
        self.quantization = target.quantization
        self.drafter_quantization = drafter_quantization
        self.warnings = target.warnings
        self.need = need
        self.need_savepoints = needs_savepoints(target.new_cache())
        # Not with the target: pairs that share it have drafters, and threads, of their own.
        self._left_by_last_lane: PrefixSlot[DraftingContext] = PrefixSlot()

    @property
    def target(self) -> TorchTarget:
        """The target.

        Raises:
            RequestError: the models are closed.
        """
        if self._target is None:
            raise RequestError("The pair is no longer loaded: load it again.")
        return self._target

    @property
    def path(self) -> str:
        """How the target decodes; where graphs could not be captured it changes after the load."""
        target = self._target
        return self._last_path if target is None else target.path

    @property
    def drafter_path(self) -> str | None:
        """The same of the drafter; None without one."""
        drafter = self._drafter
        return self._last_drafter_path if drafter is None else drafter.path

    @property
    def startup_s(self) -> float:
        """Seconds spent so far on recording steps, of the target by others that share it too."""
        held = (self._target, self._drafter)
        return sum(each.startup_s for each in held if each is not None)

    @property
    def drafter(self) -> Drafter | None:
        """The drafter; None without one."""
        return self._drafter

    def open_lane(
        self,
        sampling: SamplingParams,
        mode: Mode,
        block_size: int | None = None,
        prompt_ids: Sequence[int] | None = None,
    ) -> TorchLane:
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
        """The target's own logits of `candidates` after `token_ids`, read as a prompt is."""
        lane = TorchLane(self.target, None, SamplingParams())
        for start in range(0, len(token_ids), PREFILL_CHUNK):
            lane.extend(token_ids[start : start + PREFILL_CHUNK])
        return tuple(lane.last_logits[0, list(candidates)].float().tolist())

    def memory_bytes(self) -> int:
        """Bytes held in weights (target and drafter); tied ones count once, offloaded ones not."""
        held = (self._target, self._drafter)
        return sum(each.memory_bytes() for each in held if each is not None)

    def no_room_reason(self, lengths: Sequence[int], *, drafting: bool = True) -> str | None:
        """Why lanes of so many tokens do not fit; see `MemoryKeeper`."""
        need, target = self.need, self._target
        if need is None or target is None:
            return None
        free = free_bytes(target.device)
        if free is None:
            return None
        need = need if drafting else need.alone()
        where = f"on {target.device}"
        reason = turn_refusal(need, lengths, free, where)
        # To look for what can be freed takes a while: only where it may matter.
        return reason and turn_refusal(need, lengths, free + self.unused_bytes(), where)

    def unused_bytes(self) -> int:
        """Bytes that `free_unused` would free, or the next lane takes over."""
        models = self._target, self._drafter
        return held_bytes(self._left_by_last_lane, beside=models) + spare_bytes(*models)

    def free_unused(self) -> None:
        """Free what the last lane left and what waits for the next; see `MemoryKeeper`."""
        self._left_by_last_lane = PrefixSlot()
        free_spare(self._target, self._drafter)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Free the weights and what a lane left; a target that other models share stays."""
        self._last_path, self._last_drafter_path = self.path, self.drafter_path
        self._target = self._drafter = None
        self._left_by_last_lane = PrefixSlot()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _lane(
        self,
        drafter: Drafter | None,
        sampling: SamplingParams,
        block_size: int | None,
        prompt_ids: Sequence[int] | None,
    ) -> TorchLane:
        slot = self._left_by_last_lane
        prefix = slot.take(prompt_ids or (), drafting=drafter is not None)
        leave_to = None if prompt_ids is None else slot
        return TorchLane(self.target, drafter, sampling, block_size, prefix=prefix, slot=leave_to)


def held_on(device: torch.device, loaded: Iterable[TorchModels]) -> int:
    """Bytes of a device that would be free without these models; what they share counts once.

    Args:
        device: others do not count.
        loaded: some may be closed.
    """
    models = [each for each in loaded if each._target is not None]
    targets = {id(each._target): each._target for each in models}
    held = sum(_weights_on(device, each) for each in targets.values() if each is not None)
    here = [each for each in models if each._target and _is_same(each._target.device, device)]
    held += sum(each.drafter.memory_bytes() for each in here if each.drafter is not None)
    parts = [part for each in here for part in (each._target, each.drafter)]
    slots = [each._left_by_last_lane for each in here]
    return held + held_bytes(*slots, beside=tuple(parts)) + spare_bytes(*dict.fromkeys(parts))


def free_all_unused(loaded: Iterable[TorchModels]) -> None:
    """Free what models keep for later requests; call it on their worker's thread, with no lane.

    Args:
        loaded: some may be closed.
    """
    for each in loaded:
        if each._target is not None:
            each.free_unused()


def _weights_on(device: torch.device, target: TorchTarget) -> int:
    if "+" not in target.devices:
        return target.memory_bytes() if _is_same(target.device, device) else 0
    weights = target.model.parameters()
    return sum(each.nbytes for each in weights if _is_same(each.device, device))


def _is_same(one: torch.device, other: torch.device) -> bool:
    """Also where only one of them has a number."""
    return one.type == other.type and (one.index or 0) == (other.index or 0)
