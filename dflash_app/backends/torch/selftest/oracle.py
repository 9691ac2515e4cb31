"""A lane whose drafts come from the truth, wrong from a chosen draft on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from dflash_app.backends.torch.dflash import Proposal
from dflash_app.backends.torch.drafting import Drafter
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.engine.protocol import Verified
from dflash_app.request import SamplingParams

GREEDY = SamplingParams()


@dataclass(frozen=True, slots=True)
class Divergence:
    """A token on which a block and plain decoding disagree.

    Attributes:
        position: in prompt and output together.
        expected: by plain decoding.
        found: by the forward over the block.
    """

    position: int
    expected: int
    found: int


class OracleLane(TorchLane):
    """Forces accepted lengths: it needs no drafter, and everything else of the lane is real.

    Args:
        target: decides every token.
        prompt: what the lane will read.
        truth: the target's own output under `sampling`.
        accepted_lengths: how many drafts of each step are right; of steps beyond, all are.
        drafter: works along, so that its context is kept; what it drafts is thrown away.
        sampling: greedy, with or without a penalty.
        taps: layers whose output is asked for where there is no drafter to ask.
        corrected: go back to the truth wherever the target decides otherwise. So one near tie in
            low precision does not end a comparison: what follows is compared too.

    Attributes:
        divergences: where a corrected lane had to go back, in order.
    """

    def __init__(
        self,
        target: TorchTarget,
        prompt: Sequence[int],
        truth: Sequence[int],
        accepted_lengths: Sequence[int],
        *,
        drafter: Drafter | None = None,
        sampling: SamplingParams = GREEDY,
        taps: tuple[int, ...] = (),
        corrected: bool = False,
    ) -> None:
        super().__init__(target, drafter, sampling)
        self.divergences: list[Divergence] = []
        self._taps = self._taps or taps
        self._text = [*prompt, *truth]
        self._wanted = iter(accepted_lengths)
        self._vocab_size = target.vocab_size
        self._corrected = corrected

    def first_token(self) -> int:
        """The target's, or the true one where the lane is corrected."""
        return self._correct((super().first_token(),), self.length)[-1]

    def propose(self, num_draft: int) -> Proposal:
        """The true continuation of the anchor, every token after the wanted length changed."""
        real = super().propose(num_draft)
        start = self.length + 1
        draft = self._text[start : start + num_draft]
        draft += [0] * (num_draft - len(draft))
        wrong_from = next(self._wanted, num_draft)
        draft[wrong_from:] = [(token + 1) % self._vocab_size for token in draft[wrong_from:]]
        token_ids = torch.tensor(draft, dtype=torch.int64, device=real.token_ids.device)
        return Proposal(token_ids, None, real.confidences)

    def verify(self, draft: Proposal) -> Verified:
        """Verify; a corrected lane commits the true tokens up to the first that was not said."""
        start = self.length + 1
        verified = super().verify(draft)
        *accepted, bonus_id = self._correct(verified.token_ids, start)
        return replace(verified, num_accepted=len(accepted), bonus_id=bonus_id)

    @torch.inference_mode()
    def _correct(self, token_ids: tuple[int, ...], start: int) -> tuple[int, ...]:
        if not self._corrected:
            return token_ids
        # The truth may end inside a block.
        for index, (found, expected) in enumerate(zip(token_ids, self._text[start:], strict=False)):
            if found != expected:
                self.divergences.append(Divergence(start + index, expected, found))
                token = torch.tensor([expected], device=self._target.device)
                self._set_anchor(token, expected)
                return (*token_ids[:index], expected)
        return token_ids
