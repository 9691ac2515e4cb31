"""What the advisor finds: values only; `say` has the words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Field = Literal[
    "mode", "policy", "block_size", "thinking", "temperature",
    "dtype", "quantization", "drafter_quantization", "num_threads",
]  # fmt: skip
"""What of a request, or of how a pair is loaded, a suggestion changes."""

Figure = float | int | str


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to change before the same prompt is run again; None takes the default."""

    field: Field
    value: str | int | float | None

    @property
    def reloads(self) -> bool:
        """True where the pair must be loaded anew for it."""
        return self.field in ("dtype", "quantization", "drafter_quantization", "num_threads")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that keeps a run from being faster.

    Attributes:
        key: of its sentence.
        figures: what it was computed from, by the names that the sentence fills in.
        lost_s: seconds of the run that would be saved if this one thing were ideal and all others
            stayed; None where the run's figures do not tell.
        gain: how many times as fast the run would decode with `change`, estimated; None where it
            cannot be computed.
        change: what to try; None where nothing of a request would help.
    """

    key: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    lost_s: float | None = None
    gain: float | None = None
    change: Change | None = None
