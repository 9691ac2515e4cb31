"""What a lane asks of a drafter, whichever path it runs on."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from dflash_app.backends.torch.dflash import Proposal, Sampler
from dflash_app.drafters.config import DFlashConfig
from dflash_app.engine.prefix import Context


class DraftingContext(Context, Protocol):
    """The committed tokens as a drafter knows them; it drafts from there."""

    def extend(self, tapped: Tensor) -> None:
        """Add committed tokens at the end.

        Args:
            tapped: [1, T, taps * hidden], the target's states of them.
        """

    def draft(self, block_embeddings: Tensor) -> Tensor:
        """Run one block after all tokens held.

        Args:
            block_embeddings: [1, B, hidden], anchor first.

        Returns:
            [1, B - 1, hidden], normed: the states that hold the drafts, in order.
        """


class Drafter(Protocol):
    """`DFlashDrafter` or `fast.FastDrafter`."""

    config: DFlashConfig

    @property
    def path(self) -> str:
        """How it drafts and why not faster, in one phrase."""

    @property
    def startup_s(self) -> float:
        """Seconds spent on recording steps so far."""

    def memory_bytes(self) -> int:
        """Bytes held in weights."""

    def new_context(self) -> DraftingContext:
        """An empty context for one request."""

    def embed(self, token_ids: Tensor, embedding: Tensor) -> Tensor:
        """See `DFlashDrafter.embed`."""

    def propose(
        self,
        hidden: Tensor,
        anchor_id: Tensor,
        head: Callable[[Tensor], Tensor],
        sampler: Sampler | None,
    ) -> Proposal:
        """See `DFlashDrafter.propose`."""


class NoContext:
    """`DraftingContext` of a lane without a drafter: nothing is kept."""

    length = 0

    def extend(self, tapped: Tensor) -> None:
        """Keep nothing."""

    def crop(self, length: int) -> None:
        """Nothing is held."""

    def draft(self, block_embeddings: Tensor) -> Tensor:
        """Refuse.

        Raises:
            ValueError: always.
        """
        raise ValueError("a lane without a drafter drafts nothing")
