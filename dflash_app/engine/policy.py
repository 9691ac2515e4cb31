"""How many tokens to draft in the next step; never more than a run can still use."""

from dataclasses import dataclass
from typing import Protocol


class DraftPolicy(Protocol):
    """Asked once before every step."""

    def num_draft(self) -> int:
        """Drafts wanted in the next step; 0 decodes one token plainly (AR)."""


@dataclass(frozen=True, slots=True)
class FixedDrafts:
    """The same number of drafts in every step: block size - 1 for DFlash, 0 for AR."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"A step cannot draft {self.count} tokens.")

    def num_draft(self) -> int:
        """Drafts wanted in the next step."""
        return self.count


PLAIN = FixedDrafts(0)
"""AR: speculation with zero drafts."""
