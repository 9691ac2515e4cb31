"""A suggestion tried: the run's prompt as it was, and then with the change."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

from dflash_app.advisor.again import options_of, request_of, source_of
from dflash_app.advisor.finding import Change
from dflash_app.engine.protocol import LoadedPair
from dflash_app.events import DecodeEvent, Finished, TextDelta, token_ids_of
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.race import RaceLane, warm_up
from dflash_app.session import closable
from dflash_app.store.records import RunStart
from dflash_app.ui.choice import page_threads
from dflash_app.workspace import Workspace

WARM_UP_TOKENS = 8
"""Decoded first, unrecorded, so that neither half pays for first calls; few, as Stop waits."""

MAX_PAIRS = 3
MOST_S = 6.0
"""Seconds that all pairs together may take before no further one is begun."""

Half = Literal["before", "after"]
HALVES: tuple[Half, ...] = ("before", "after")


@dataclass(slots=True)
class Outcome:
    """One run of a trial as it grows."""

    run_id: int | None = None
    events: list[DecodeEvent] = field(default_factory=list)

    @property
    def metrics(self) -> RunMetrics:
        """Its figures so far."""
        return summarize(self.events)

    @property
    def token_ids(self) -> list[int]:
        """What it put out so far."""
        return [token_id for event in self.events for token_id in token_ids_of(event)]

    @property
    def text(self) -> str:
        """The same as text."""
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def whole(self) -> bool:
        """It ended by itself."""
        last = self.events[-1] if self.events else None
        return isinstance(last, Finished) and last.reason != "cancelled"


TrialEvent = tuple[Outcome, DecodeEvent]


@dataclass(slots=True)
class Trial:
    """A change being tried on a run's prompt.

    Both halves are run by turns, several times where they are short: one pair of short runs tells
    what else the machine did meanwhile.

    Attributes:
        start: of the run whose prompt it is.
        change: what the second half has otherwise.
        gain: the speed that was estimated; None where it was not.
        halves: the runs of each half, pair by pair.
    """

    start: RunStart
    change: Change
    gain: float | None
    halves: dict[Half, list[Outcome]] = field(
        default_factory=lambda: {half: [Outcome()] for half in HALVES}
    )

    def add(self, items: Sequence[TrialEvent]) -> None:
        """Take what came."""
        for outcome, event in items:
            outcome.events.append(event)

    @property
    def pairs(self) -> list[tuple[Outcome, Outcome]]:
        """Runs of both halves that ended by themselves; the first pair says what was put out."""
        both = zip(self.halves["before"], self.halves["after"], strict=False)
        return [pair for pair in both if all(outcome.whole for outcome in pair)]

    @property
    def speedup(self) -> float | None:
        """How many times as fast the change decoded, median of all pairs; None where unknown."""
        ratios = [
            after.metrics.decode_tok_s / before.metrics.decode_tok_s
            for before, after in self.pairs
            if before.metrics.decode_tok_s and after.metrics.decode_tok_s
        ]
        return median(ratios) if ratios else None

    def speed(self, half: Half) -> float | None:
        """Median tok/s of a half; None where unknown."""
        speeds = [outcome.metrics.decode_tok_s for outcome in self.halves[half] if outcome.whole]
        known = [speed for speed in speeds if speed is not None]
        return median(known) if known else None

    @property
    def differs_at(self) -> int | None:
        """Index of the first token that differs, or that only one half has; None for none.

        Of a server that does not tell its tokens, of the first character.
        """
        firsts = [self.halves[half][0] for half in HALVES]
        told = all(each.token_ids for each in firsts)
        before, after = (each.token_ids if told else each.text for each in firsts)
        for index, (one, other) in enumerate(zip(before, after, strict=False)):
            if one != other:
                return index
        return None if len(before) == len(after) else min(len(before), len(after))

    def run(self, workspace: Workspace, owner: str | None) -> Iterator[TrialEvent]:
        """Load, warm up and decode both halves by turns, recorded; in the reader's thread.

        Raises:
            DFlashAppError: the pair cannot be loaded so, or a run failed.
        """
        started_s = time.monotonic()
        for turn in range(MAX_PAIRS):
            took_s = time.monotonic() - started_s
            if turn and (self.change.reloads or took_s * (turn + 1) / turn > MOST_S):
                return
            for half in HALVES if turn % 2 == 0 else reversed(HALVES):
                yield from self._decode(workspace, owner, half, turn)

    def _decode(
        self, workspace: Workspace, owner: str | None, half: Half, turn: int
    ) -> Iterator[TrialEvent]:
        change = self.change if half == "after" else None
        loaded = self._load(workspace, change)
        request = request_of(self.start, change)
        if turn == 0:
            few = min(WARM_UP_TOKENS, request.max_new_tokens)
            warm_up([RaceLane(loaded, request)], max_tokens=few)
        else:
            self.halves[half].append(Outcome())
        outcome = self.halves[half][turn]

        def began(run_id: int) -> None:
            outcome.run_id = run_id

        source = source_of(change)
        events = workspace.run(loaded, request, source=source, owner=owner, began=began)
        with closing(closable(events)) as stream:
            for event in stream:
                yield outcome, event

    def _load(self, workspace: Workspace, change: Change | None) -> LoadedPair:
        start = self.start
        options = options_of(start, page_threads(), change)
        if not start.on_server and workspace.state(start.pair).drafter_dir is None:
            options = replace(options, drafter=False)
        known = workspace.backends_for(start.pair)
        return workspace.loaded(
            start.pair, options, start.backend if start.backend in known else None
        )
