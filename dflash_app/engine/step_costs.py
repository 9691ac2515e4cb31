"""What a step of each width costs on this device, in proportion to the others."""

from math import exp, log

NEEDED_STEPS = 6
"""Steps measured at width 0 and at the widest before any width is judged."""
TURN = 2
"""Of these, steps of one width in a row: plain ones after a block are no measure of plain ones."""
LEAST_SHARE = 1 / 128
"""Share of a surprise that goes to the cost of a width measured often; of n steps, an n-th."""
PACE_SHARE = 0.4
"""Share of it that goes to the pace of the moment, once the width is known."""
GUESS_STEPS = 2
"""Measured steps that the guess between two neighbours counts for: the luck of one fast step must
not make a width look best."""
MAX_SURPRISE = 0.3
"""Largest slowness learnt from one step, as a logarithm: somebody else may have had the core."""
TRIAL_SHARE = 0.01
"""Share of all time that trials may lose."""


class StepCosts:
    """Learnt from the steps of all runs of a loaded pair at one block size, on its worker thread.

    Two things make a step slow: its width, and the moment (another process, a longer context, a
    hotter chip). Only ratios between widths decide how much to draft, so a step that takes another
    time than expected moves the pace of the moment at once and the cost of its width hardly, once
    that is known. What slows every width alike is then no reason to change the width.

    The widths are few and spread by ratio: the gain is flat around the best one, and each width
    may need kernels or graphs of its own. Those are made in its first step, which is not counted.
    A width that was never tried is taken to lie on the line between its neighbours, which is
    hopeful where the first draft costs most, so it is tried where that matters.

    Attributes:
        widths: drafts in a step, ascending, from 0 (AR) to the block's all.
    """

    def __init__(self, num_drafts: int) -> None:
        widths = [num_drafts]
        while widths[-1] > 1:
            widths.append(min(widths[-1] - 1, round(widths[-1] / 1.4)))
        self.widths = (0, *reversed(widths))
        self._num_steps = dict.fromkeys(self.widths, 0)
        self._logs: dict[int, float] = {}
        self._costs: dict[int, float] = {}
        self._pace = 0.0
        self._trial_budget = 0.0

    def __getitem__(self, width: int) -> float:
        """The cost of a step of this width, in a unit of its own; all widths share it."""
        if not self._costs:
            self._interpolate()
        return self._costs[width]

    @property
    def unmeasured(self) -> int | None:
        """The width to run next because nothing can be judged without it; None where all is known.

        The widest and AR take turns: a machine that becomes slow meanwhile makes both look so.
        """
        width = min(self.widths[-1], 0, key=lambda width: self._num_steps[width] // TURN)
        return width if self._num_steps[width] < NEEDED_STEPS else None

    def observe(self, width: int, step_s: float) -> None:
        """Learn from a step; one cut to a width that is not among `widths` tells nothing.

        Args:
            width: drafts that were verified.
            step_s: seconds of drafting and verification together: on a GPU only their sum is
                known, as drafting ends after the host has gone on.
        """
        if width not in self._num_steps or step_s <= 0.0:
            return
        earlier = self._num_steps[width]
        self._num_steps[width] += 1
        if earlier == 0:
            return
        moment = log(step_s)
        if not self._logs:
            self._pace = moment
        is_end = width in (0, self.widths[-1])
        if width not in self._logs:
            guessed = self._logs and not is_end
            self._logs[width] = log(self[width]) if guessed else moment - self._pace
        weight = earlier if is_end else earlier + GUESS_STEPS
        surprise = min(moment - self._pace - self._logs[width], MAX_SURPRISE)
        self._logs[width] += max(1.0 / weight, LEAST_SHARE) * surprise
        if earlier >= NEEDED_STEPS:
            self._pace += PACE_SHARE * surprise
        # Made anew when asked for: a plain step must cost next to nothing.
        self._costs.clear()
        widest = self._logs.get(self.widths[-1], self._logs[width])
        budget = self._trial_budget + TRIAL_SHARE * exp(self._logs[width])
        self._trial_budget = min(budget, exp(widest))

    def allows_trial(self, loss: float) -> bool:
        """Whether a step may be spent on learning.

        Args:
            loss: what it is expected to cost more than what its tokens cost otherwise.
        """
        return max(loss, 0.0) <= self._trial_budget

    def charge_trial(self, loss: float) -> None:
        """Take what a trial did lose; a negative loss, a gain, pays for further trials."""
        self._trial_budget -= loss

    def _interpolate(self) -> None:
        known = {width: exp(cost) for width, cost in self._logs.items()}
        for width in self.widths:
            if width in known:
                self._costs[width] = known[width]
                continue
            below = max((each for each in known if each < width), default=None)
            above = min((each for each in known if each > width), default=None)
            if below is None or above is None:
                self._costs[width] = known[below if above is None else above]  # type: ignore[index]
                continue
            part = (width - below) / (above - below)
            self._costs[width] = known[below] + part * (known[above] - known[below])
