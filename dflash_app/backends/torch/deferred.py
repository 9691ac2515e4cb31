"""The drafter's context of plain steps, made when a block is drafted: AR fallback then costs AR."""

import torch
from torch import Tensor

from dflash_app.backends.torch.drafting import DraftingContext

WAITING_TOKENS = 16
"""Room for tokens that wait is made for so many at once; once made it is kept."""
MOST_WAITING = 128
"""Most tokens that wait, where plain steps follow plain steps: projecting takes its time, and the
drafter's weights take the place of the target's in the processor's caches."""


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
        # [1, WAITING_TOKENS, taps * hidden] each.
        self._waiting: list[Tensor] = []
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
        part, row = divmod(self._num_waiting, WAITING_TOKENS)
        if part == len(self._waiting):
            self._waiting.append(tapped.new_empty(1, WAITING_TOKENS, tapped.shape[2]))
        self._waiting[part].narrow(1, row, 1).copy_(tapped)
        self._num_waiting += 1
        if self._num_waiting == MOST_WAITING:
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
        if self._num_waiting:
            waiting = self._waiting[0]
            if self._num_waiting > WAITING_TOKENS:
                waiting = torch.cat(self._waiting, dim=1)
            self._context.extend(waiting[:, : self._num_waiting])
            self._num_waiting = 0
            del self._waiting[1:]
        return self._context
