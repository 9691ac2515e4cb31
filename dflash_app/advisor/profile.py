"""What the steps of one run tell: how far drafts got, and where the time went."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from dflash_app.events import DecodeEvent, PrefillDone, StepDone

NEIGHBOURS = 2
"""Steps before and after one that it is compared with."""
_START_UP = "Start-up:"
"""How the engine's note on a step begins that recorded what later ones repeat."""


@dataclass(frozen=True, slots=True)
class TimedStep:
    """A step and what it took.

    Attributes:
        event: as it came.
        context: tokens before it, those of the prompt included.
        step_s: from the end of the step before to its own.
    """

    event: StepDone
    context: int
    step_s: float

    @property
    def host_s(self) -> float:
        """Seconds that were neither drafting nor verifying."""
        return max(0.0, self.step_s - self.event.propose_s - self.event.verify_s)

    @property
    def is_start_up(self) -> bool:
        """True where the step also recorded what later ones repeat."""
        return (self.event.note or "").startswith(_START_UP)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step of one kind costs: means of `num_steps`, in seconds."""

    num_steps: int
    step_s: float
    propose_s: float
    verify_s: float
    host_s: float


@dataclass(frozen=True, slots=True)
class Profile:
    """The steps of one run.

    Attributes:
        steps: all of them, in their order.
        ttft_s: seconds before the first token.
        width: drafts of the usual block; 0 where none drafted.
        survival: for the k-th draft (index k - 1), share of the steps that drafted it which
            accepted it.
    """

    steps: tuple[TimedStep, ...]
    ttft_s: float
    width: int
    survival: tuple[float, ...]

    @property
    def drafting(self) -> list[TimedStep]:
        """The steps that drafted."""
        return [step for step in self.steps if step.event.drafted_ids]

    @property
    def decode_s(self) -> float:
        """Seconds of all steps."""
        return sum(step.step_s for step in self.steps)

    @property
    def num_tokens(self) -> int:
        """Tokens that the steps put out."""
        return sum(len(step.event.token_ids) for step in self.steps)

    @property
    def acceptance_length(self) -> float:
        """Mean tokens that a drafting step commits, bonus token included; 1 where none drafted."""
        return acceptance_length(self.drafting)

    @property
    def block(self) -> Cost | None:
        """What a step costs that drafts the usual block; None where none did."""
        return _cost([step for step in self.drafting if len(step.event.drafted_ids) == self.width])

    @property
    def plain(self) -> Cost | None:
        """What a step without drafts costs; None where there was none."""
        return _cost([step for step in self.steps if not step.event.drafted_ids])

    def expected_tokens(self, width: int) -> float:
        """Tokens that a step of `width` drafts commits, by what was accepted here.

        Beyond the widest block of the run each further draft is taken to be accepted, where those
        before it were, as often as the last one was.
        """
        total, alive = 1.0, 1.0
        known = self.survival[:width]
        for alive in known:
            total += alive
        if width > len(known) > 1 and known[-2] > 0:
            for _ in range(width - len(known)):
                alive *= known[-1] / known[-2]
                total += alive
        return total


def profile(events: Iterable[DecodeEvent]) -> Profile:
    """Read a run's events, complete or cut anywhere."""
    events = list(events)
    prefill = next((event for event in events if isinstance(event, PrefillDone)), None)
    if prefill is None:
        return Profile((), 0.0, 0, ())
    came = [event for event in events if isinstance(event, StepDone)]
    ends = [prefill.elapsed_s, *(event.elapsed_s for event in came)]
    context, steps = prefill.num_prompt_tokens + 1, []
    for event, (before, after) in zip(came, pairwise(ends), strict=True):
        steps.append(TimedStep(event, context, after - before))
        context += len(event.token_ids)
    widths = Counter(len(event.drafted_ids) for event in came if event.drafted_ids)
    width = max(widths, key=lambda each: (widths[each], each), default=0)
    return Profile(tuple(steps), prefill.elapsed_s, width, _survival(came, width))


def acceptance_length(steps: Sequence[TimedStep]) -> float:
    """Mean tokens a step of these commits before any cut, bonus token included; 1 for none."""
    return 1.0 + fmean(step.event.num_accepted for step in steps) if steps else 1.0


def quiet_step_s(steps: Sequence[TimedStep]) -> float:
    """Mean of the shortest of each step and its neighbours: what steps take uninterrupted.

    A longer context makes neighbours alike slower, so it does not look like an interruption.
    """
    times = [step.step_s for step in steps if not step.is_start_up]
    near = [times[max(0, i - NEIGHBOURS) : i + NEIGHBOURS + 1] for i in range(len(times))]
    return fmean(map(min, near)) if near else 0.0


def usual_step_s(steps: Sequence[TimedStep]) -> float:
    """The median seconds of a step, start-up steps left out; 0 for none."""
    return median([step.step_s for step in steps if not step.is_start_up] or [0.0])


def _survival(steps: Sequence[StepDone], width: int) -> tuple[float, ...]:
    """Share of steps that accepted the k-th draft, of those that drafted it."""
    shares = []
    for position in range(1, width + 1):
        drafted = [step for step in steps if len(step.drafted_ids) >= position]
        shares.append(sum(step.num_accepted >= position for step in drafted) / len(drafted))
    return tuple(shares)


def _cost(steps: Sequence[TimedStep]) -> Cost | None:
    steady = [step for step in steps if not step.is_start_up]
    if not steady:
        return None
    return Cost(
        num_steps=len(steady),
        step_s=fmean(step.step_s for step in steady),
        propose_s=fmean(step.event.propose_s for step in steady),
        verify_s=fmean(step.event.verify_s for step in steady),
        host_s=fmean(step.host_s for step in steady),
    )
