"""How many tokens to draft in the next step; never more than a run can still use.

Every width is lossless: a policy changes the time a reply takes and nothing else, as long as tokens
are not drawn at random. Where they are, the number of draws depends on the widths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dflash_app.engine.step_costs import StepCosts
from dflash_app.engine.survival import Survival

MARGIN = 1.02
"""How much faster another width must look to be taken: without it, estimates flap."""
PATIENCE = 1.5
"""Plain steps' time that each change of the way adds to what the other must be ahead by for the
next one; the first change needs none."""
LEAST_LOSS = 0.1
"""Plain steps that a trial is taken to lose at least."""
TRIAL_EVERY = 8
"""Plain steps in AR fallback between two thoughts of drafting again."""
FAR_AHEAD = 1.5
"""Times AR's speed from which AR's cost is not measured anew: no error of it would matter."""

SEEDED_NOTE = (
    "Fixed drafts: adaptive ones depend on measured times, so a run with temperature and seed "
    "could not be repeated; take the seed away to adapt."
)


class DraftPolicy(Protocol):
    """Asked before every step how much to draft, told after it what came of that."""

    def num_draft(self) -> int:
        """Drafts wanted in the next step; 0 decodes one token plainly (AR)."""

    def observe(
        self,
        num_drafted: int,
        num_accepted: int,
        step_s: float | None,
        confidences: Sequence[float] | None = None,
    ) -> str | None:
        """Learn from a step.

        Args:
            num_drafted: drafts that were verified: fewer than wanted where a run ends.
            num_accepted: of these; the bonus token is none of them.
            step_s: seconds of drafting, verification and rewind; None where the step was slowed by
                what no later one does again.
            confidences: the drafter's probability of each draft, or None.

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

    def observe(
        self,
        num_drafted: int,
        num_accepted: int,
        step_s: float | None,
        confidences: Sequence[float] | None = None,
    ) -> str | None:
        """Nothing is learnt and nothing changes."""
        del num_drafted, num_accepted, step_s, confidences
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

    def observe(
        self,
        num_drafted: int,
        num_accepted: int,
        step_s: float | None,
        confidences: Sequence[float] | None = None,
    ) -> str | None:
        """The note, after the first step."""
        del num_drafted, num_accepted, step_s, confidences
        note, self._note = self._note, None
        return note


class AdaptiveDrafts:
    """As many drafts as commit the most tokens a second, none where drafting loses time.

    A step of `w` drafts commits E(w) tokens (`Survival`, from this run) and costs c(w)
    (`StepCosts`, from all runs of the pair); the largest E(w) / c(w) wins, and AR is 1 / c(0). What
    is not chosen is not measured, so now and then steps are spent on the other side: two plain ones
    while drafting, a drafted one in AR fallback. These trials may lose 1 % of the time. A lane that
    has fallen back keeps the drafter's context, so drafting can come back at any token.

    What each drafted step wins or loses against plain ones is added up, and the way changes when
    the other one has been better by some plain steps' time, by more of them after every change.
    Far from the break-even that is a step or two; near it, where either way does, few changes come.

    Args:
        costs: of this pair and block size; used on the worker's thread alone.
    """

    def __init__(self, costs: StepCosts) -> None:
        self._costs = costs
        self._survival = Survival(costs.widths[-1])
        self._width = costs.widths[-1]
        self._fallen_back = False
        self._is_trial = False
        self._num_plain = 1
        self._missed = 0.0
        self._patience = 0.0
        self._note: str | None = None

    def num_draft(self) -> int:
        """Drafts wanted in the next step; decides, so it is asked once a step."""
        if self._is_trial and self._num_plain == 1 and not self._fallen_back:
            return 0  # the plain trial's second step, which is measured
        self._is_trial = False
        unmeasured = self._costs.unmeasured
        if unmeasured is not None:
            return unmeasured
        if self._fallen_back and self._num_plain % TRIAL_EVERY:
            return 0
        self._choose_width()
        if not self._num_plain:
            self._choose_way()
        present, other = (0, self._width) if self._fallen_back else (self._width, 0)
        if self._note is None and self._may_try(other):
            self._is_trial = True
            return other
        return present

    def observe(
        self,
        num_drafted: int,
        num_accepted: int,
        step_s: float | None,
        confidences: Sequence[float] | None = None,
    ) -> str | None:
        """Learn from a step; returns why AR fallback began or ended with it, else None."""
        if num_drafted == 0 and self._num_plain == 0:
            # A block leaves the processor's caches to this step as no plain one does: a quarter
            # slower on the embedded pair, and AR would look as much dearer than it is.
            step_s = None
        if self._is_trial and num_drafted in self._costs.widths:
            loss = self._loss(num_drafted, 1.0 + num_accepted)
            # A plain step that gains must not pay for more: the way changes by drafted ones.
            self._costs.charge_trial(loss if num_drafted else max(loss, self._least_loss))
        self._num_plain = 0 if num_drafted else self._num_plain + 1
        if step_s is not None:
            self._costs.observe(num_drafted, step_s)
        self._survival.observe(num_drafted, num_accepted, confidences)
        note, self._note = self._note, None
        return note

    def _choose_width(self) -> None:
        costs, expected = self._costs, self._survival.expected_tokens
        speeds = {width: expected(width) / costs[width] for width in costs.widths[1:]}
        best = max(speeds, key=speeds.__getitem__)
        if speeds[best] > MARGIN * speeds[self._width]:
            # Wider by one at a time: the next width is a cheap way to learn of what lies beyond.
            wider = (width for width in costs.widths if self._width < width <= best)
            self._width = next(wider, best)

    def _choose_way(self) -> None:
        """By the evidence of drafted steps only, not because that of earlier ones fades."""
        plain_steps = self._costs[self._width] / self._costs[0]
        gain = self._survival.expected_tokens(self._width) - plain_steps
        self._missed = max(0.0, self._missed + (gain if self._fallen_back else -gain))
        if self._missed <= self._patience:
            return
        self._missed = 0.0
        self._patience += PATIENCE
        self._fallen_back = not self._fallen_back
        self._note = self._explain()

    def _may_try(self, width: int) -> bool:
        loss = self._loss(width, self._survival.expected_tokens(width))
        if width == 0 and loss > (1.0 - 1.0 / FAR_AHEAD) * self._costs[0]:
            return False
        # Near the break-even a trial costs nothing, and would else take every step.
        return self._costs.allows_trial(max(loss, self._least_loss))

    @property
    def _least_loss(self) -> float:
        return LEAST_LOSS * self._costs[0]

    def _loss(self, width: int, num_tokens: float) -> float:
        """What a trial costs more than its tokens would cost in the present way."""
        present = 0 if self._fallen_back else self._width
        token_cost = self._costs[present] / self._survival.expected_tokens(present)
        return self._costs[width] - num_tokens * token_cost

    def _explain(self) -> str:
        length = self._survival.expected_tokens(self._width)
        plain_steps = self._costs[self._width] / self._costs[0]
        figures = (
            f"a step with drafts commits {length:.1f} tokens here and takes as long as "
            f"{plain_steps:.1f} plain steps"
        )
        if self._fallen_back:
            return f"AR fallback: drafting pauses, as it loses time ({figures})."
        return f"Drafting again: it saves time ({figures})."
