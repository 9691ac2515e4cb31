"""How far drafts get: the probability that a step accepts the draft at each position."""

from collections.abc import Sequence

PRIOR_RATE = 0.9
"""Accepted share of the drafts that are looked at, before anything was seen. Hopeful: who starts
with few drafts learns nothing about the many, and a block that is refused tells at once."""
PRIOR_WEIGHT = 16.0
"""Drafts that the prior counts for: a reply of a few steps must not be judged by one of them."""
SHARED_WEIGHT = 8.0
"""Drafts that the rate of all positions counts for at each position."""
KEPT_PER_TOKEN = 0.98
"""Share of the evidence that a further token leaves: text changes, so what came 100 tokens ago
counts for an eighth."""
LEAST_EVIDENCE = 24.0
"""Drafts below which nothing is forgotten: what was seen last stays the best guess."""
TRUST_WEIGHT = 16.0
"""Drafts for which a run takes the drafter's confidence at its word, before any was looked at."""


class Survival:
    """The acceptance of one run, from what its steps accepted.

    A draft is accepted only where all before it were, so each position has a rate of its own among
    the steps that got there (a discrete hazard). A step that verified fewer drafts says nothing of
    the later positions, and nothing is assumed: they lean on the rate of all positions.

    A block whose first draft is refused tells nothing of its others, and text that the drafter does
    not know refuses one after the other. There its confidence in those others counts as if they had
    been looked at, scaled by how often it was right in this run: low all along where the text is
    unknown, and as ever where a single draft was wrong. Elsewhere the outcome itself is known.

    Args:
        num_drafts: of the widest step.
    """

    def __init__(self, num_drafts: int) -> None:
        self._reached = [0.0] * num_drafts
        self._accepted = [0.0] * num_drafts
        # Of the drafts that were looked at: the sum of their confidences, and how many were right.
        self._trusted = self._right = TRUST_WEIGHT
        # Made when it is asked for: a plain step must cost next to nothing.
        self._expected: Sequence[float] = ()
        self._num_plain = 0

    def expected_tokens(self, width: int) -> float:
        """Tokens that a step of `width` drafts commits on average, bonus token included."""
        if self._num_plain:
            self._forget(self._num_plain)
        if not self._expected:
            self._estimate()
        return self._expected[width]

    def observe(
        self, num_drafted: int, num_accepted: int, confidences: Sequence[float] | None = None
    ) -> None:
        """Count a step.

        Args:
            num_drafted: drafts that were verified, at most `num_drafts`.
            num_accepted: of these.
            confidences: the drafter's probability of each; None where it gives none.
        """
        if num_drafted == 0:
            self._num_plain += 1
            return
        self._forget(self._num_plain)
        self._forget(num_accepted + 1)
        for position in range(num_accepted):
            self._reached[position] += 1.0
            self._accepted[position] += 1.0
        if num_accepted < num_drafted:
            self._reached[num_accepted] += 1.0
        if confidences is not None:
            self._trusted += sum(confidences[: num_accepted + 1])
            self._right += num_accepted
            if num_accepted == 0:
                self._count_unseen(confidences)

    def _count_unseen(self, confidences: Sequence[float]) -> None:
        trust = self._right / self._trusted
        for position in range(1, len(confidences)):
            self._reached[position] += 1.0
            self._accepted[position] += min(1.0, trust * confidences[position])

    def _forget(self, num_tokens: int) -> None:
        self._num_plain, self._expected = 0, ()
        evidence = sum(self._reached)
        if num_tokens and evidence > LEAST_EVIDENCE:
            kept = max(KEPT_PER_TOKEN**num_tokens, LEAST_EVIDENCE / evidence)
            self._reached = [kept * count for count in self._reached]
            self._accepted = [kept * count for count in self._accepted]
            self._trusted, self._right = kept * self._trusted, kept * self._right

    def _estimate(self) -> None:
        shared_rate = (sum(self._accepted) + PRIOR_WEIGHT * PRIOR_RATE) / (
            sum(self._reached) + PRIOR_WEIGHT
        )
        survival, total = 1.0, 1.0
        expected = [total]
        for accepted, reached in zip(self._accepted, self._reached, strict=True):
            survival *= (accepted + SHARED_WEIGHT * shared_rate) / (reached + SHARED_WEIGHT)
            total += survival
            expected.append(total)
        self._expected = expected
