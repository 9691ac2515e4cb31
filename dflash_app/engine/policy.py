"""How many tokens to draft in the next step; never more than a run can still use.

Every width is lossless: a policy changes the time a reply takes and nothing else, as long as tokens
are not drawn at random. Where they are, the number of draws depends on the widths.
"""

from dataclasses import dataclass
from typing import Protocol

from dflash_app.engine.step_costs import StepCosts
from dflash_app.engine.survival import Survival

MARGIN = 1.02
"""How much faster another width must look to be taken: without it, estimates flap."""
FAR_AHEAD = 2.0
"""Times AR's speed from which AR's cost is not measured anew: no error of it would matter."""

SEEDED_NOTE = (
    "Fixed drafts: adaptive ones depend on measured times, so a run with temperature and seed "
    "could not be repeated; take the seed away to adapt."
)


class DraftPolicy(Protocol):
    """Asked before every step how much to draft, told after it what came of that."""

    def num_draft(self) -> int:
        """Drafts wanted in the next step; 0 decodes one token plainly (AR)."""

    def observe(self, num_drafted: int, num_accepted: int, step_s: float) -> str | None:
        """Learn from a step.

        Args:
            num_drafted: drafts that were verified: fewer than wanted where a run ends.
            num_accepted: of these; the bonus token is none of them.
            step_s: seconds of drafting, verification and rewind.

        Returns:
            A sentence for the user where this step began something new, else None.
        """


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

    def observe(self, num_drafted: int, num_accepted: int, step_s: float) -> str | None:
        """Nothing is learnt and nothing changes."""
        del num_drafted, num_accepted, step_s
        return None


PLAIN = FixedDrafts(0)
"""AR: speculation with zero drafts."""


class SeededDrafts:
    """Fixed drafts where adaptive ones were asked for and would spoil the seed; says so once.

    Args:
        count: drafts a step.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._note: str | None = SEEDED_NOTE

    def num_draft(self) -> int:
        """Drafts wanted in the next step."""
        return self._count

    def observe(self, num_drafted: int, num_accepted: int, step_s: float) -> str | None:
        """The note, after the first step."""
        del num_drafted, num_accepted, step_s
        note, self._note = self._note, None
        return note


class AdaptiveDrafts:
    """As many drafts as commit the most tokens a second, none where drafting loses time.

    A step of `w` drafts commits E(w) tokens (`Survival`, from this run) and costs c(w)
    (`StepCosts`, from all runs of the pair); the largest E(w) / c(w) wins, and AR is 1 / c(0). What
    is not chosen is not measured, so now and then a step is spent on the other side: a plain one
    while drafting, a drafted one in AR fallback. These trials may lose 1 % of the time. A lane that
    has fallen back keeps the drafter's context, so drafting can come back at any token.

    Args:
        costs: of this pair and block size; used on the worker's thread alone.
    """

    def __init__(self, costs: StepCosts) -> None:
        self._costs = costs
        self._survival = Survival(costs.widths[-1])
        self._width = costs.widths[-1]
        self._fallen_back = False
        self._is_trial = False
        self._just_drafted = False
        self._note: str | None = None

    def num_draft(self) -> int:
        """Drafts wanted in the next step; decides, so it is asked once a step."""
        self._is_trial = False
        unmeasured = self._costs.unmeasured
        if unmeasured is not None:
            return unmeasured
        self._choose()
        present, other = (0, self._width) if self._fallen_back else (self._width, 0)
        if self._note is None and self._may_try(other):
            self._is_trial = True
            return other
        return present

    def observe(self, num_drafted: int, num_accepted: int, step_s: float) -> str | None:
        """Learn from a step; returns why AR fallback began or ended with it, else None."""
        if self._is_trial and num_drafted in self._costs.widths:
            self._costs.charge_trial(self._loss(num_drafted, 1.0 + num_accepted))
        self._just_drafted = num_drafted > 0
        self._costs.observe(num_drafted, step_s)
        self._survival.observe(num_drafted, num_accepted)
        note, self._note = self._note, None
        return note

    def _choose(self) -> None:
        costs, expected = self._costs, self._survival.expected_tokens
        speeds = {width: expected(width) / costs[width] for width in costs.widths[1:]}
        best = max(speeds, key=speeds.__getitem__)
        if speeds[best] > MARGIN * speeds[self._width]:
            # Wider by one at a time: the next width is a cheap way to learn of what lies beyond.
            wider = (width for width in costs.widths if self._width < width <= best)
            self._width = next(wider, best)
        drafting, plain = speeds[self._width], 1.0 / costs[0]
        # Back by the evidence of a drafted step only, not because that of earlier ones fades.
        if self._fallen_back and self._just_drafted and drafting > MARGIN * plain:
            self._fallen_back = False
            self._note = f"Drafting again: it saves time here {self._figures()}."
        elif not self._fallen_back and plain > drafting:
            self._fallen_back = True
            self._note = (
                f"AR fallback: drafting would cost more time than it saves here {self._figures()}."
            )

    def _may_try(self, width: int) -> bool:
        loss = self._loss(width, self._survival.expected_tokens(width))
        if width == 0:
            far_ahead = loss > (1.0 - 1.0 / FAR_AHEAD) * self._costs[0]
            # Never two plain steps in a row: at the break-even they cost nothing, so nothing else
            # would end them, and the acceptance would never be seen again.
            if far_ahead or not self._just_drafted:
                return False
        return self._costs.allows_trial(loss)

    def _loss(self, width: int, num_tokens: float) -> float:
        """What a trial costs more than its tokens would cost in the present way."""
        present = 0 if self._fallen_back else self._width
        token_cost = self._costs[present] / self._survival.expected_tokens(present)
        return self._costs[width] - num_tokens * token_cost

    def _figures(self) -> str:
        length = self._survival.expected_tokens(self._width)
        break_even = self._costs[self._width] / self._costs[0]
        return f"(acceptance length {length:.1f}, break-even {break_even:.1f})"
