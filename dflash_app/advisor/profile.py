"""What the steps of one run tell: how far drafts got, and where the time went."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from dflash_app.events import DecodeEvent, PrefillDone, ServerCounts, StepDone, TokensArrived
from dflash_app.metrics import summarize

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
        """Seconds that were neither drafting nor verifying, in whole nanoseconds."""
        return max(0.0, round(self.step_s - self.event.propose_s - self.event.verify_s, 9))

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
class Served:
    """A run on a server, whose steps are not told: its sums instead.

    Attributes:
        decode_s: seconds from the first tokens that arrived to the last, measured here.
        num_tokens: that arrived in them; 0 where nobody counted.
        num_drafting: steps that drafted; 0 where the server does not tell, or tells a count that
            other traffic may be in.
        num_drafted: tokens drafted in them.
        acceptance_length: mean tokens of them, bonus token included; 1 where not told.
    """

    decode_s: float
    num_tokens: float
    num_drafting: int = 0
    num_drafted: int = 0
    acceptance_length: float = 1.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The steps of one run.

    Attributes:
        steps: all of them, in their order.
        ttft_s: seconds before the first token.
        width: drafts of the usual block; 0 where none drafted.
        survival: for the k-th draft (index k - 1), share of the steps that drafted it which
            accepted it.
        served: of a run on a server, which has no `steps`; None of our own engine's.
    """

    steps: tuple[TimedStep, ...]
    ttft_s: float
    width: int
    survival: tuple[float, ...]
    served: Served | None = None

    @property
    def drafting(self) -> list[TimedStep]:
        """The steps that drafted."""
        return [step for step in self.steps if step.event.drafted_ids]

    @property
    def num_drafting(self) -> int:
        """How many steps drafted, a server's included."""
        return self.served.num_drafting if self.served else len(self.drafting)

    @property
    def mean_drafted(self) -> float:
        """Mean tokens drafted by a step that drafted; 0 where none did."""
        if self.served:
            return self.served.num_drafted / max(self.served.num_drafting, 1)
        return fmean([len(step.event.drafted_ids) for step in self.drafting] or [0])

    @property
    def drafting_s(self) -> float:
        """Seconds of the steps that drafted; of a server all of them."""
        if self.served:
            return self.served.decode_s
        return sum(step.step_s for step in self.drafting)

    @property
    def total_s(self) -> float:
        """Seconds of the run, the first token's included: what shares of the time are told of."""
        return self.ttft_s + self.decode_s

    @property
    def decode_s(self) -> float:
        """Seconds of all steps."""
        return self.served.decode_s if self.served else sum(step.step_s for step in self.steps)

    @property
    def num_tokens(self) -> float:
        """Tokens that the steps put out."""
        if self.served:
            return self.served.num_tokens
        return sum(len(step.event.token_ids) for step in self.steps)

    @property
    def acceptance_length(self) -> float:
        """Mean tokens that a drafting step commits, bonus token included; 1 where none drafted."""
        return self.served.acceptance_length if self.served else acceptance_length(self.drafting)

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
    if any(isinstance(event, TokensArrived | ServerCounts) for event in events):
        return _of_server(events)
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


def _of_server(events: Sequence[DecodeEvent]) -> Profile:
    """By what arrived, and by what the server counted for this run alone."""
    found = summarize(events)
    counts = next((event for event in events if isinstance(event, ServerCounts)), None)
    decode_s = found.decode_s or 0.0
    sums = Served(decode_s, decode_s * (found.decode_tok_s or 0.0))
    if counts is None or counts.shared or found.mean_acceptance_length is None:
        return Profile((), found.ttft_s or 0.0, 0, (), sums)
    num_steps = counts.num_steps or 0
    told = counts.num_drafted
    width = len(counts.accepted_by_position) or (told or 0) // max(num_steps, 1)
    sums = Served(
        sums.decode_s,
        sums.num_tokens,
        num_drafting=num_steps,
        num_drafted=width * num_steps if told is None else told,
        acceptance_length=found.mean_acceptance_length,
    )
    return Profile((), found.ttft_s or 0.0, width, found.acceptance_by_position, sums)


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
