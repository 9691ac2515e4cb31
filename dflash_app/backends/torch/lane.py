"""One request on one device, batch 1: its caches, its sampler, its random state."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dflash_app.backends.torch.acceptance import (
    draw,
    greedy_accept,
    penalise_repetition,
    rejection_accept,
    sampling_probs,
)
from dflash_app.backends.torch.dflash import Proposal
from dflash_app.backends.torch.drafting import Drafter, DraftingContext
from dflash_app.backends.torch.event_timer import choose_timer
from dflash_app.backends.torch.savepoint import new_prefix
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.engine.prefix import Prefix, PrefixSlot
from dflash_app.engine.protocol import Verified
from dflash_app.request import SamplingParams

_CONFIDENCE_SCALE = 1_000_000
"""Confidences cross to the host as millionths, in the same integer tensor as the tokens."""


class TorchLane:
    """`engine.protocol.Lane` on a cache that goes back.

    Args:
        target: decides every token.
        drafter: None decodes plainly.
        sampling: of both; one generator draws for both.
        block_size: query width of the drafter, anchor included; None takes the drafter's own.
        prefix: what an earlier lane read and this one goes on from; None starts with nothing.
        slot: where this lane leaves its caches; None frees them.
    """

    def __init__(
        self,
        target: TorchTarget,
        drafter: Drafter | None,
        sampling: SamplingParams,
        block_size: int | None = None,
        *,
        prefix: Prefix[DraftingContext] | None = None,
        slot: PrefixSlot[DraftingContext] | None = None,
    ) -> None:
        self._prefix = prefix or new_prefix(target, drafter)
        self._slot = slot
        # False while the caches may hold what is not in the prefix's ids, or half a forward.
        self._settled = True
        self._target = target
        self._drafter = drafter
        self._sampling = sampling
        self._taps = drafter.config.target_layer_ids if drafter is not None else ()
        self._block_size = 1
        if drafter is not None:
            self._block_size = block_size or drafter.config.block_size
        self._last_logits: Tensor | None = None
        # What the drafter reads, [block size], and its slot 0, [1]; that id is known here too.
        self._block_ids: Tensor | None = None
        self._anchor: Tensor | None = None
        self._anchor_id = -1
        self._no_draft = Proposal(torch.empty(0, dtype=torch.int64, device=target.device))
        self._timer = choose_timer(target.device)
        self._startup_s = self._recorded_s()
        # The tokens in the cache, kept only where a penalty asks what came before.
        self._history: Tensor | None = None
        if sampling.penalises:
            self._history = torch.tensor(
                self._prefix.token_ids, dtype=torch.int64, device=target.device
            )
        self._generator = torch.Generator(target.device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    @property
    def length(self) -> int:
        """Tokens in the target's cache."""
        return self._prefix.length

    @torch.inference_mode()
    def extend(self, token_ids: Sequence[int]) -> None:
        """Prefill a chunk of the prompt: target forward, drafter context, last logits."""
        self._settled = False
        ids = torch.tensor(token_ids, dtype=torch.int64, device=self._target.device)
        self._last_logits, tapped = self._target.forward(ids, self._prefix.cache, 1, self._taps)
        self._prefix.token_ids += token_ids
        self._prefix.crop(self.length)  # a prompt stays: nothing is kept to take it back
        if tapped is not None:
            self._prefix.context.extend(tapped)
        self._remember(ids)
        self._settled = True

    def set_savepoint(self) -> None:
        """Let a later lane go back to what is held now; see `Prefix.go_back`."""
        self._prefix.set_savepoint()

    @property
    def last_logits(self) -> Tensor:
        """[1, V], of the last prefilled position.

        Raises:
            ValueError: nothing was prefilled, or the first token was taken.
        """
        if self._last_logits is None:
            raise ValueError("extend() a prompt before asking for the first token")
        return self._last_logits

    @torch.inference_mode()
    def first_token(self) -> int:
        """Sample the first output token from the last prefilled position; it becomes the anchor."""
        token = self._choose(self._penalised(self.last_logits))
        self._last_logits = None
        self._startup_s = self._recorded_s()
        self._set_anchor(token, int(token))
        return self._anchor_id

    def propose(self, num_draft: int) -> Proposal:
        """Draft `num_draft` tokens after the anchor; 0 drafts nothing (AR).

        The query is as wide as the block whatever `num_draft` is: the drafter was trained so.
        """
        if num_draft == 0 or self._drafter is None:
            return self._no_draft
        return self._propose(self._drafter, num_draft)

    @torch.inference_mode()
    def verify(self, draft: Proposal) -> Verified:
        """Run the target over anchor and drafts, accept, and take the bonus token as new anchor.

        The caches keep every position until `rewind`. Costs the step's one host synchronisation.
        """
        self._settled = False
        _, ids = self._block()
        num_draft = draft.token_ids.shape[0]
        if num_draft:
            ids = torch.cat([ids, draft.token_ids])
        logits, tapped = self._target.forward(ids, self._prefix.cache, num_draft + 1, self._taps)
        self._remember(ids)
        logits = self._penalised(logits)
        if num_draft:
            num_accepted, bonus = self._accept(draft, logits)
            verified = _to_host(draft, num_accepted, bonus)
        else:
            bonus = self._choose(logits)
            verified = Verified((), 0, int(bonus))
        if tapped is not None:
            kept = tapped[:, : verified.num_accepted + 1] if num_draft else tapped
            self._prefix.context.extend(kept)
        self._prefix.token_ids += (self._anchor_id, *verified.drafted_ids)
        self._set_anchor(bonus, verified.bonus_id)
        return self._timed(verified)

    @torch.inference_mode()
    def rewind(self, length: int) -> None:
        """Keep the first `length` tokens of the caches and forget the rest."""
        self._prefix.crop(length)
        if self._history is not None:
            self._history = self._history[:length]
        self._settled = True

    def close(self) -> None:
        """Leave the caches to the next lane or free them; free them after an error in a forward."""
        if self._slot is not None and self._settled:
            self._slot.put(self._prefix)
        self._prefix, self._slot = new_prefix(self._target, None), None
        self._last_logits = self._block_ids = self._anchor = self._history = None

    def _recorded_s(self) -> float:
        drafter_s = 0.0 if self._drafter is None else self._drafter.startup_s
        return self._target.startup_s + drafter_s

    def _timed(self, verified: Verified) -> Verified:
        """With what the host's clock does not tell of the step."""
        before_s, self._startup_s = self._startup_s, self._recorded_s()
        startup_s, propose_s = self._startup_s - before_s, None
        if self._timer is not None and verified.drafted_ids:
            propose_s = self._timer.elapsed_s()
        if propose_s is None and not startup_s:
            return verified
        return replace(verified, propose_s=propose_s, startup_s=startup_s)

    @torch.inference_mode()
    def _propose(self, drafter: Drafter, num_draft: int) -> Proposal:
        block_ids, anchor = self._block()
        if self._timer is not None:
            self._timer.start()
        block = drafter.embed(block_ids[None], self._target.embedding)
        hidden = self._prefix.context.draft(block)
        proposal = drafter.propose(
            hidden[0, :num_draft],
            anchor,
            self._target.head,
            None if self._sampling.greedy else self._sample,
        )
        if self._timer is not None:
            self._timer.stop()
        return proposal

    def _accept(self, draft: Proposal, logits: Tensor) -> tuple[Tensor, Tensor]:
        if self._sampling.greedy:
            return greedy_accept(draft.token_ids, logits)
        if draft.probs is None:
            raise ValueError("a sampling lane needs the probabilities that drafts were drawn from")
        probs = sampling_probs(logits, self._sampling)
        return rejection_accept(draft.token_ids, draft.probs, probs, self._generator)

    def _choose(self, logits: Tensor) -> Tensor:
        """The target's token after each position: [N, V] -> [N] int64."""
        if self._sampling.greedy:
            return logits.argmax(dim=-1)
        return draw(sampling_probs(logits, self._sampling), self._generator)

    def _sample(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        probs = sampling_probs(scores, self._sampling)
        return probs, draw(probs, self._generator)

    def _remember(self, ids: Tensor) -> None:
        if self._history is not None:
            self._history = torch.cat([self._history, ids])

    def _penalised(self, logits: Tensor) -> Tensor:
        """The target's logits of the last positions under what came before each of them."""
        if self._history is None:
            return logits
        return penalise_repetition(logits, self._history, self._sampling.repetition_penalty)

    def _set_anchor(self, token: Tensor, token_id: int) -> None:
        """Put the token, one int64, into slot 0 of the block."""
        if self._block_ids is None or self._anchor is None:
            mask_id = self._drafter.config.mask_token_id if self._drafter is not None else 0
            self._block_ids = token.new_full((self._block_size,), mask_id)
            self._anchor = self._block_ids[:1]
        self._anchor.copy_(token)
        self._anchor_id = token_id

    def _block(self) -> tuple[Tensor, Tensor]:
        if self._block_ids is None or self._anchor is None:
            raise ValueError("first_token() makes the anchor: call it before drafting")
        return self._block_ids, self._anchor


def _to_host(draft: Proposal, num_accepted: Tensor, bonus: Tensor) -> Verified:
    """Read acceptance, bonus, drafts and confidences in one transfer."""
    num_draft = draft.token_ids.shape[0]
    parts = [num_accepted[None], bonus[None], draft.token_ids]
    if draft.confidences is not None:
        parts.append((draft.confidences * _CONFIDENCE_SCALE).to(torch.int64))
    accepted, bonus_id, *rest = torch.cat(parts).tolist()
    scaled = None
    if draft.confidences is not None:
        scaled = tuple(value / _CONFIDENCE_SCALE for value in rest[num_draft:])
    return Verified(tuple(rest[:num_draft]), accepted, bonus_id, scaled)
