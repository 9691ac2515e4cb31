"""Everything that is known of one run: its record and steps, its pair, and runs to compare with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from dflash_app.advisor.profile import Profile
from dflash_app.registry.pair import Pair
from dflash_app.store.records import RunRecord, RunStart

TRIAL_SOURCE = "microscope"
"""Of a suggestion that is tried on the page."""
THREADS_TRIAL_SOURCE = "microscope-threads"
"""Of one that is tried with other threads: a browser is there, but no core is left to it."""
PAGE_SOURCES = ("chat", "race", "api", TRIAL_SOURCE)
"""Runs beside a browser, which leave it a core: their times compare with each other only."""
LEAST_STEPS = 30
"""Steps that a group of other runs must have together to be compared with."""


@dataclass(frozen=True, slots=True)
class PlainStep:
    """What a step without drafts takes for this pair on this machine.

    Attributes:
        step_s: mean seconds.
        run_id: of the run nearest in time that it was measured in; None: this one.
        num_runs: that it was measured in.
    """

    step_s: float
    run_id: int | None = None
    num_runs: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One run and what it is judged by.

    Attributes:
        record: of the run.
        profile: of its steps.
        pair: the registry's row; None where it is no longer there.
        drafter_positions: most positions that the drafter's config allows; None where not known.
        bfloat16_units: whether the processor multiplies in bfloat16; None where not known, or
            where the run was made on another machine.
        plain: what a plain step takes; None where none was measured.
        others: other ended runs of the pair on the same machine, newest first.
    """

    record: RunRecord
    profile: Profile
    pair: Pair | None = None
    drafter_positions: int | None = None
    bfloat16_units: bool | None = None
    plain: PlainStep | None = None
    others: Sequence[RunRecord] = ()

    @property
    def start(self) -> RunStart:
        """What was asked."""
        return self.record.start

    @property
    def seeded(self) -> bool:
        """Adaptive drafts were asked for, and a seed kept them fixed: the engine notes it so."""
        notes = [step.event.note or "" for step in self.profile.steps[:1]]
        return any(note.startswith("Fixed drafts:") for note in notes)

    @property
    def fixed(self) -> bool:
        """Every step drafted the whole block."""
        return self.start.policy == "fixed" or self.seeded

    @property
    def length(self) -> float:
        """Mean acceptance length of the steps that drafted."""
        return self.profile.acceptance_length

    @property
    def present_speed(self) -> float:
        """Tokens a second of this run's steps; 0 where none took time."""
        decode_s = self.profile.decode_s
        return self.profile.num_tokens / decode_s if decode_s > 0 else 0.0

    def lengths(self, fits: Callable[[RunRecord], bool]) -> "Lengths | None":
        """Acceptance of other runs of the same block size, None where too few are known.

        Args:
            fits: which runs.
        """
        found = [
            run
            for run in self.others
            if run.metrics.mean_acceptance_length is not None
            and not run.metrics.acceptance_shared
            and run.start.block_size == self.start.block_size
            and run.start.policy == self.start.policy
            and fits(run)
        ]
        steps = [run.metrics.num_steps or 0 for run in found]
        if sum(steps) < LEAST_STEPS:
            return None
        lengths = [run.metrics.mean_acceptance_length or 1 for run in found]
        return Lengths(fmean(lengths, weights=steps), len(found))

    def step_times(self, fits: Callable[[RunRecord], bool]) -> "StepTimes | None":
        """Times of a step of other runs of the same mode and block size, None where too few.

        Args:
            fits: which runs.
        """
        start = self.start
        found = [
            (run.metrics.decode_s, run.metrics.num_steps)
            for run in self.others
            if run.metrics.decode_s
            and run.metrics.num_steps
            and (run.start.mode, run.start.block_size, run.start.policy)
            == (start.mode, start.block_size, start.policy)
            and fits(run)
        ]
        if sum(num_steps for _, num_steps in found) < LEAST_STEPS:
            return None
        return StepTimes(fmean(decode_s / num_steps for decode_s, num_steps in found), len(found))


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean acceptance length of so many other runs, by their steps."""

    mean: float
    num_runs: int


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Mean seconds of a step of so many other runs."""

    mean_s: float
    num_runs: int


def loaded_alike(start: RunStart, other: RunStart) -> bool:
    """Whether two runs had the same weights on the same device, decoded the same way."""
    return _place(start) == _place(other) and beside_page(start) == beside_page(other)


def beside_page(start: RunStart) -> bool:
    """Whether a browser shared the machine, and had a core of its own."""
    return start.source in PAGE_SOURCES


def _place(start: RunStart) -> tuple[str | None, ...]:
    return (start.backend, start.device, start.dtype, start.quantization, start.path)
