"""The drafter's context of plain steps, made when a block is drafted: AR fallback then costs AR."""

import torch
from torch import Tensor

from dflash_app.backends.torch.drafting import DraftingContext

WAITING_TOKENS = 16
"""Most tokens that wait, at most a common block's: so many at once cost hardly more than one."""


class DeferredContext:
    """`drafting.DraftingContext` in which single tokens wait until a block is drafted.

    A run that has fallen back to AR keeps the drafter ready for any later token. Projecting each
    token by itself reads the drafter's weights in every step: the embedded pair's plain step took
    14 % longer than AR's. Longer pieces, as of a prompt or of a block, are projected at once.

    Args:
        context: holds what is projected.
    """

    def __init__(self, context: DraftingContext) -> None:
        self._context = context
        self._waiting: Tensor | None = None
        self._num_waiting = 0

    @property
    def length(self) -> int:
        """Tokens held, waiting ones included."""
        return self._context.length + self._num_waiting

    def extend(self, tapped: Tensor) -> None:
        """Add committed tokens at the end.

        Args:
            tapped: [1, T, taps * hidden], the target's states of them. A token that waits is
                copied: the next forward may write over it.
        """
        if tapped.shape[1] > 1:
            self.projected().extend(tapped)
            return
        if self._waiting is None:
            self._waiting = tapped.new_empty(1, WAITING_TOKENS, tapped.shape[2])
        self._waiting[:, self._num_waiting] = tapped[:, 0]
        self._num_waiting += 1
        if self._num_waiting == WAITING_TOKENS:
            self.projected()

    def draft(self, block_embeddings: Tensor) -> Tensor:
        """Run one block after all tokens held."""
        return self.projected().draft(block_embeddings)

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens."""
        self._num_waiting = min(self._num_waiting, max(0, length - self._context.length))
        self._context.crop(length)

    @torch.inference_mode()
    def projected(self) -> DraftingContext:
        """The context itself, with nothing left to wait."""
        if self._waiting is not None and self._num_waiting:
            self._context.extend(self._waiting[:, : self._num_waiting])
            self._num_waiting = 0
        return self._context
