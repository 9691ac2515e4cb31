"""A run under the microscope: its steps, with tokens as text where the tokenizer is here."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Literal

from dflash_app.advisor.profile import Profile, TimedStep, profile
from dflash_app.drafters.token_texts import TokenTexts
from dflash_app.errors import LoadError, RegistryError
from dflash_app.events import (
    DecodeEvent,
    PrefillDone,
    ServerCounts,
    StepDone,
    TokensArrived,
    token_ids_of,
)
from dflash_app.hub.cache import pair_state
from dflash_app.store.records import RunRecord
from dflash_app.workspace import Workspace

Fate = Literal["accepted", "cut", "refused", "behind"]

SHOWN_BEFORE = 400
"""Tokens of the reply that are shown before a block."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One drafted token of a block.

    Attributes:
        fate: accepted; cut: accepted, but the reply ended before it; refused: the first that the
            target did not want; behind: it fell with the refused one, unjudged.
        confidence: the drafter's own probability; None where it was not recorded.
    """

    token_id: int
    fate: Fate
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Specimen:
    """A run opened.

    Attributes:
        record: of the run.
        profile: of its steps.
        token_ids: everything it put out.
        starts: for each step, how many tokens were out before it.
        arrivals: what a server sent, and when; empty of our own engine's.
        counts: what the server told that ran it; None of our own engine's, and where nothing was.
        texts: of the pair's tokenizer; None where it is not on this machine.
    """

    record: RunRecord
    profile: Profile
    token_ids: tuple[int, ...]
    starts: tuple[int, ...]
    arrivals: tuple[TokensArrived, ...]
    counts: ServerCounts | None
    texts: TokenTexts | None

    @property
    def steps(self) -> tuple[TimedStep, ...]:
        """Its steps."""
        return self.profile.steps

    @property
    def positions(self) -> tuple[float, ...]:
        """For each draft position, share of the steps that accepted it."""
        return self.profile.survival or self.record.metrics.acceptance_by_position

    @property
    def has_confidences(self) -> bool:
        """Whether any step tells how sure the drafter was."""
        return any(step.event.confidences for step in self.steps)

    def drafts(self, index: int) -> list[Draft]:
        """The drafted tokens of a step, each with its fate."""
        step = self.steps[index].event
        sure = step.confidences or (None,) * len(step.drafted_ids)
        return [
            Draft(token_id, _fate(step, position), confidence)
            for position, (token_id, confidence) in enumerate(
                zip(step.drafted_ids, sure, strict=False)
            )
        ]

    def own_token(self, index: int) -> int | None:
        """The token that the target itself gave in a step; None where the reply ended before it."""
        step = self.steps[index].event
        return step.token_ids[-1] if len(step.token_ids) == step.num_accepted + 1 else None

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """Tokens one by one as text, or as their numbers."""
        if self.texts is None:
            return [f"#{token_id}" for token_id in token_ids]
        return self.texts(token_ids)

    def reply_at(self, index: int) -> tuple[str, str, bool]:
        """The reply up to a step.

        Returns:
            (before, block, cut): the text before the step's own tokens, those, and whether the
            beginning is left out.
        """
        start = self.starts[index]
        end = start + len(self.steps[index].event.token_ids)
        first = max(0, start - SHOWN_BEFORE)
        before, whole = self.token_ids[first:start], self.token_ids[first:end]
        if self.texts is None:
            ids = self.tokens(self.token_ids[start:end])
            return " ".join(self.tokens(before)), " ".join(ids), first > 0
        told, all_told = self.texts.decode(before), self.texts.decode(whole)
        # Half a character at the end of `before` becomes whole with the block.
        same = len(told) if all_told.startswith(told) else _common(told, all_told)
        return told[:same], all_told[same:], first > 0


def open_specimen(
    workspace: Workspace, record: RunRecord, events: Sequence[DecodeEvent]
) -> Specimen:
    """Put a run under the microscope; its models need not be loaded, nor even be here."""
    steps = [event for event in events if isinstance(event, StepDone)]
    prefill = next((event for event in events if isinstance(event, PrefillDone)), None)
    num_first = 0 if prefill is None else 1
    ends = accumulate((len(step.token_ids) for step in steps), initial=num_first)
    return Specimen(
        record=record,
        profile=profile(events),
        token_ids=tuple(token_id for event in events for token_id in token_ids_of(event)),
        starts=tuple(ends)[:-1],
        arrivals=tuple(event for event in events if isinstance(event, TokensArrived)),
        counts=next((event for event in events if isinstance(event, ServerCounts)), None),
        texts=_texts_of(workspace, record.start.pair),
    )


def _texts_of(workspace: Workspace, name: str) -> TokenTexts | None:
    try:
        folder = pair_state(workspace.registry.get(name)).target_dir
        return None if folder is None else _read_texts(folder)
    except (RegistryError, LoadError):
        return None


@lru_cache(maxsize=4)
def _read_texts(folder: Path) -> TokenTexts:
    return TokenTexts(folder)


def _fate(step: StepDone, position: int) -> Fate:
    if position < step.num_accepted:
        return "accepted" if position < len(step.token_ids) else "cut"
    return "refused" if position == step.num_accepted else "behind"


def _common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
