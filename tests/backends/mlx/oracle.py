"""A lane whose drafts come from the truth, wrong from a chosen draft on: forces lengths."""

from collections.abc import Sequence

import mlx.core as mx

from dflash_app.backends.mlx.dflash import DFlashDrafter, Proposal
from dflash_app.backends.mlx.lane import MlxLane
from dflash_app.backends.mlx.target import MlxTarget
from dflash_app.request import SamplingParams

GREEDY = SamplingParams()


class OracleLane(MlxLane):
    """It needs no drafter, and everything else of the lane is real."""

    def __init__(
        self,
        target: MlxTarget,
        prompt: Sequence[int],
        truth: Sequence[int],
        accepted_lengths: Sequence[int],
        *,
        drafter: DFlashDrafter | None = None,
        sampling: SamplingParams = GREEDY,
        taps: tuple[int, ...] = (),
    ) -> None:
        super().__init__(target, drafter, sampling)
        self._taps = self._taps or taps
        self._text = [*prompt, *truth]
        self._wanted = iter(accepted_lengths)

    def propose(self, num_draft: int) -> Proposal:
        """The true continuation of the anchor, every token after the wanted length changed."""
        real = super().propose(num_draft)
        start = self.length + 1
        draft = self._text[start : start + num_draft]
        draft += [0] * (num_draft - len(draft))
        wrong_from = next(self._wanted, num_draft)
        vocab_size = self._target.vocab_size
        draft[wrong_from:] = [(token + 1) % vocab_size for token in draft[wrong_from:]]
        return Proposal(mx.array(draft, dtype=mx.int32), None, real.confidences)
