"""Target and drafter in memory on one device, and the lanes opened on them."""

import gc
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from dflash_app.backends.torch.context import ContextCache
from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.savepoint import needs_savepoints
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.engine.prefix import PrefixSlot
from dflash_app.errors import RequestError
from dflash_app.request import MAX_BLOCK_SIZE, Mode, SamplingParams


class TorchModels:
    """`engine.protocol.LoadedModels`.

    Args:
        target: may be shared with other models of the same worker.
        drafter: None decodes plainly only.
        eos_ids: tokens that end a turn beside those that the target's configs name.
        drafter_quantization: what the drafter's weights are stored as.
    """

    def __init__(
        self,
        target: TorchTarget,
        drafter: DFlashDrafter | None,
        eos_ids: Iterable[int] = (),
        *,
        drafter_quantization: str | None = None,
    ) -> None:
        self._target: TorchTarget | None = target
        self._drafter = drafter
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
        self.need_savepoints = needs_savepoints(target.new_cache())
        # Not with the target: pairs that share it have drafters, and threads, of their own.
        self._left_by_last_lane: PrefixSlot[ContextCache] = PrefixSlot()

    @property
    def target(self) -> TorchTarget:
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
        if self._drafter is None or self.max_block_size is None:
            raise RequestError(
                "DFlash needs a drafter and none is loaded: load a pair with one, or use mode 'ar'."
            )
        if block_size is not None and not 2 <= block_size <= self.max_block_size:
            raise RequestError(
                f"This drafter takes blocks of 2 to {self.max_block_size} tokens, not "
                f"{block_size}: choose one in that range."
            )
        return self._lane(self._drafter, sampling, block_size, prompt_ids)

    @torch.inference_mode()
    def next_logits(self, token_ids: Sequence[int], candidates: Sequence[int]) -> tuple[float, ...]:
        """The target's own logits of `candidates` after `token_ids`, from one plain forward."""
        ids = torch.tensor(token_ids, dtype=torch.int64, device=self.target.device)
        logits, _ = self.target.forward(ids, None, 1)
        return tuple(logits[0, list(candidates)].float().tolist())

    def memory_bytes(self) -> int:
        """Bytes held in weights (target and drafter); tied ones count once, offloaded ones not."""
        modules: list[nn.Module] = []
        if self._target is not None:
            modules.append(self._target.model)
        if self._drafter is not None:
            modules.append(self._drafter)
        return sum(
            parameter.numel() * parameter.element_size()
            for module in modules
            for parameter in module.parameters()
            if not parameter.is_meta
        )

    def close(self) -> None:
        """Free the weights and what a lane left; a target that other models share stays."""
        self._target = self._drafter = None
        self._left_by_last_lane = PrefixSlot()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _lane(
        self,
        drafter: DFlashDrafter | None,
        sampling: SamplingParams,
        block_size: int | None,
        prompt_ids: Sequence[int] | None,
    ) -> TorchLane:
        slot = self._left_by_last_lane
        prefix = slot.take(prompt_ids or (), drafting=drafter is not None)
        leave_to = None if prompt_ids is None else slot
        return TorchLane(self.target, drafter, sampling, block_size, prefix=prefix, slot=leave_to)
