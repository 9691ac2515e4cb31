"""A lane whose drafts come from the truth, wrong from a chosen draft on."""

from collections.abc import Sequence

import torch

from dflash_app.backends.torch.dflash import Proposal
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.request import SamplingParams


class OracleLane(TorchLane):
    """Forces accepted lengths: it needs no drafter, and everything else of the lane is real.

    Args:
        target: decides every token.
        prompt: what the lane will read.
        truth: the target's own greedy output.
        accepted_lengths: how many drafts of each step are right; any others are wrong.
    """

    def __init__(
        self,
        target: TorchTarget,
        prompt: Sequence[int],
        truth: Sequence[int],
        accepted_lengths: Sequence[int],
    ) -> None:
        super().__init__(target, None, SamplingParams())
        self._text = [*prompt, *truth]
        self._wanted = iter(accepted_lengths)
        self._vocab_size = target.vocab_size

    def propose(self, num_draft: int) -> Proposal:
        """The true continuation of the anchor, every token after the wanted length changed."""
        start = self.length + 1
        draft = self._text[start : start + num_draft]
        draft += [0] * (num_draft - len(draft))
        wrong_from = next(self._wanted, num_draft)
        draft[wrong_from:] = [(token + 1) % self._vocab_size for token in draft[wrong_from:]]
        return Proposal(torch.tensor(draft, dtype=torch.int64))
