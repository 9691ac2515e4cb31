"""Draft length policies over recorded acceptances and given step costs; no model, no clock.

`acceptances.json` holds, for every token of a reply, how many drafts of a full block would have
been accepted there, and how sure the drafter was of them (a hexadecimal digit each; made by
`python -m benchmarks.acceptances`). What a step accepts depends on its token and width alone, so
the replay is exact, but for a confidence that is the block's average at every draft.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from dflash_app.engine.policy import AdaptiveDrafts, DraftPolicy, FixedDrafts
from dflash_app.engine.step_costs import StepCosts

Costs = Sequence[float]
"""Seconds of a step by its width, AR first."""
Noise = Callable[[], float]

NUM_DRAFTS = 15


@dataclass(frozen=True)
class Reply:
    """Blocks at every token of a reply.

    Attributes:
        accepted: of a full block.
        confidences: the drafter's in each block; None where it tells none.
    """

    accepted: Sequence[int]
    confidences: Sequence[float] | None = None

    def __len__(self) -> int:
        return len(self.accepted)


def recorded_replies() -> dict[str, list[Reply]]:
    """The embedded pair's, by kind of prompt."""
    recorded = json.loads((Path(__file__).parent / "acceptances.json").read_text(encoding="utf-8"))
    assert recorded["num_drafts"] == NUM_DRAFTS
    return {
        kind: [
            Reply(_digits(reply["accepted"]), [each / 15 for each in _digits(reply["confidence"])])
            for reply in replies
        ]
        for kind, replies in recorded["replies"].items()
    }


def _digits(text: str) -> list[int]:
    return [int(digit, 16) for digit in text]


def chance_replies(rates: Sequence[float], num_tokens: int, count: int) -> list[Reply]:
    """Replies in which each draft is right by chance; the rate changes every 120 tokens."""
    source = random.Random(7)

    def accepted(rate: float) -> int:
        number = 0
        while number < NUM_DRAFTS and source.random() < rate:
            number += 1
        return number

    return [
        Reply([accepted(rates[token // 120 % len(rates)]) for token in range(num_tokens)])
        for _ in range(count)
    ]


def line(first: float, each: float, drafter: float) -> Costs:
    """Costs that grow evenly: AR costs 1, a step of w drafts drafter + first + each * w."""
    return [1.0, *(drafter + first + each * width for width in range(1, NUM_DRAFTS + 1))]


def through(points: Mapping[int, float]) -> Costs:
    """Costs measured at some widths, the first AR and the last the block's, and lines between."""
    widths = list(points)
    result = [points[0]]
    for low, high in pairwise(widths):
        rise = (points[high] - points[low]) / (high - low)
        result += [points[low] + rise * (width - low) for width in range(low + 1, high + 1)]
    return result


FAST = {0: 0.81, 1: 1.64, 2: 1.74, 3: 1.93, 4: 2.04, 6: 2.25, 8: 2.43, 11: 2.78, 15: 3.48}
"""Milliseconds a step of the embedded pair on the fast path: one thread of a shared machine."""
COSTS: Mapping[str, Costs] = {
    "GPU, verification nearly free": line(1.0, 0.01, drafter=0.15),
    "embedded pair on two cores": line(1.0, 0.018, drafter=0.39),
    "CPU, a second token costs a matrix product": line(1.5, 0.1, drafter=0.3),
    "CPU, each token costs a quarter": line(1.0, 0.25, drafter=0.2),
    "Metal 4-bit, another kernel from the 5th draft on": [
        *line(1.0, 0.08, drafter=0.15)[:5],
        *line(2.2, 0.12, drafter=0.15)[5:],
    ],
    "a drafter as heavy as its target": line(1.0, 0.02, drafter=1.0),
    "fast path, one thread": through(FAST),
    "fast path, AR cheaper still": through({**FAST, 0: 0.65}),
    "8 bit, every token dear": line(1.2, 0.35, drafter=0.3),
}


@dataclass
class Replayed:
    """What a run did.

    Attributes:
        seconds: by the given costs; noise is seen by the policy only.
        widths: drafts of each step.
        notes: (token, sentence).
    """

    seconds: float = 0.0
    widths: list[int] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)


def replay(
    policy: DraftPolicy,
    reply: Reply,
    costs: Costs,
    noise: Noise = lambda: 1.0,
    after_block: float = 1.0,
) -> Replayed:
    """Decode one reply.

    Args:
        policy: asked and told as `decode` does.
        reply: what would be accepted.
        costs: of the widths.
        noise: of the times that the policy is told.
        after_block: what a plain step takes that follows a block, in plain steps.
    """
    done, token = Replayed(), 0
    while token < len(reply):
        width = policy.num_draft()
        accepted = min(width, reply.accepted[token])
        follows_block = bool(done.widths) and done.widths[-1] > 0
        step_s = costs[width] * (after_block if follows_block and width == 0 else 1.0)
        done.widths.append(width)
        done.seconds += step_s
        sure = None if reply.confidences is None else [reply.confidences[token]] * width
        if note := policy.observe(width, accepted, step_s * noise(), sure or None):
            done.notes.append((token, note))
        token += accepted + 1
    return done


def steady(deviation: float, source: random.Random) -> Noise:
    """Log-normal noise, with a step in 30 taking three times as long."""
    return lambda: source.lognormvariate(0.0, deviation) * (3.0 if source.random() < 1 / 30 else 1)


def loaded(source: random.Random) -> Noise:
    """A machine shared with others: noisier, and about every 100 steps of another speed."""
    noise, speed = steady(0.2, source), [1.0]

    def next_noise() -> float:
        if source.random() < 0.01:
            speed[0] = source.choice([1.0, 1.0, 1.5, 2.2])
        return speed[0] * noise()

    return next_noise


@dataclass
class Totals:
    """Seconds of all replies of a kind under each policy."""

    fixed: float = 0.0
    ar: float = 0.0
    adaptive: float = 0.0

    @property
    def regret(self) -> float:
        """Adaptive's seconds over those of the better of the two others."""
        return self.adaptive / min(self.fixed, self.ar)


def compare_policies(
    replies: Mapping[str, Sequence[Reply]],
    costs: Costs,
    noise_of: Callable[[random.Random], Noise],
    *,
    num_rounds: int = 2,
    num_warm_up: int = 3,
    after_block: float = 1.0,
) -> dict[str, Totals]:
    """All replies in a random order, the kinds mixed; costs are learnt anew in each round.

    The first replies are run before anything counts, as `benchmarks/` does.
    """
    totals = {kind: Totals() for kind in replies}
    for number in range(num_rounds):
        source = random.Random(number)
        noise, learnt = noise_of(source), StepCosts(NUM_DRAFTS)
        order = [(kind, reply) for kind, group in replies.items() for reply in group]
        source.shuffle(order)
        for _, reply in order[:num_warm_up]:
            replay(AdaptiveDrafts(learnt), reply, costs, noise, after_block)
        for kind, reply in order:
            total = totals[kind]
            total.fixed += replay(FixedDrafts(NUM_DRAFTS), reply, costs).seconds
            total.ar += costs[0] * len(reply)
            adaptive = replay(AdaptiveDrafts(learnt), reply, costs, noise, after_block)
            total.adaptive += adaptive.seconds
    return totals
