"""One request on one device, batch 1: its caches, its sampler, its random state."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dflash_app.backends.torch.acceptance import (
    draw,
    greedy_accept,
    penalise_repetition,
    rejection_accept,
    sampling_probs,
)
from dflash_app.backends.torch.context import ContextCache
from dflash_app.backends.torch.dflash import DFlashDrafter, Proposal
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
        drafter: DFlashDrafter | None,
        sampling: SamplingParams,
        block_size: int | None = None,
        *,
        prefix: Prefix[ContextCache] | None = None,
        slot: PrefixSlot[ContextCache] | None = None,
    ) -> None:
        self._prefix = prefix or new_prefix(target.new_cache())
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
        self._block_ids: Tensor | None = None
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
        self._append_context(tapped)
        self._remember(ids)
        self._settled = True

    def set_savepoint(self) -> None:
        """Let a later lane go back to what is held now; see `Prefix.go_back`."""
        self._prefix.set_savepoint()

    @torch.inference_mode()
    def first_token(self) -> int:
        """Sample the first output token from the last prefilled position; it becomes the anchor."""
        if self._last_logits is None:
            raise ValueError("extend() a prompt before asking for the first token")
        logits = self._penalised(self._last_logits)
        if self._sampling.greedy:
            token = logits.argmax(dim=-1)
        else:
            token = draw(sampling_probs(logits, self._sampling), self._generator)
        self._last_logits = None
        self._set_anchor(token)
        return int(token)

    @torch.inference_mode()
    def propose(self, num_draft: int) -> Proposal:
        """Draft `num_draft` tokens after the anchor; 0 drafts nothing (AR).

        The query is as wide as the block whatever `num_draft` is: the drafter was trained so.
        """
        if num_draft == 0 or self._drafter is None:
            return Proposal(self._block()[:0])
        block = self._drafter.embed(self._block()[None], self._target.embedding)
        hidden = self._drafter.draft(block, self._prefix.context.layers(), self.length)
        return self._drafter.propose(
            hidden[0, :num_draft],
            self._block()[:1],
            self._target.head,
            None if self._sampling.greedy else self._sample,
        )

    @torch.inference_mode()
    def verify(self, draft: Proposal) -> Verified:
        """Run the target over anchor and drafts, accept, and take the bonus token as new anchor.

        The caches keep every position until `rewind`. Costs the step's one host synchronisation.
        """
        self._settled = False
        num_draft = draft.token_ids.shape[0]
        ids = torch.cat([self._block()[:1], draft.token_ids])
        logits, tapped = self._target.forward(ids, self._prefix.cache, num_draft + 1, self._taps)
        self._remember(ids)
        num_accepted, bonus = self._accept(draft, self._penalised(logits))
        anchor_id, verified = _to_host(ids, draft.confidences, num_accepted, bonus)
        if tapped is not None:
            self._append_context(tapped[:, : verified.num_accepted + 1])
        self._prefix.token_ids += (anchor_id, *verified.drafted_ids)
        self._set_anchor(bonus[None])
        return verified

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
        self._prefix, self._slot = new_prefix(self._target.new_cache()), None
        self._last_logits = self._block_ids = self._history = None

    def _accept(self, draft: Proposal, logits: Tensor) -> tuple[Tensor, Tensor]:
        if self._sampling.greedy:
            return greedy_accept(draft.token_ids, logits)
        probs = sampling_probs(logits, self._sampling)
        if draft.probs is None:
            return torch.zeros((), dtype=torch.int64, device=probs.device), draw(
                probs, self._generator
            )[0]
        return rejection_accept(draft.token_ids, draft.probs, probs, self._generator)

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

    def _append_context(self, tapped: Tensor | None) -> None:
        if self._drafter is None or tapped is None:
            return
        context = self._prefix.context
        start = context.length
        positions = torch.arange(start, start + tapped.shape[1], device=tapped.device)
        context.append(self._drafter.project_context(tapped, positions))

    def _set_anchor(self, token: Tensor) -> None:
        """Put the token, [1] int64, into slot 0 of the block."""
        if self._block_ids is None:
            mask_id = self._drafter.config.mask_token_id if self._drafter is not None else 0
            self._block_ids = token.new_full((self._block_size,), mask_id)
        self._block_ids[:1] = token

    def _block(self) -> Tensor:
        if self._block_ids is None:
            raise ValueError("first_token() makes the anchor: call it before drafting")
        return self._block_ids


def _to_host(
    ids: Tensor, confidences: Tensor | None, num_accepted: Tensor, bonus: Tensor
) -> tuple[int, Verified]:
    """Read the anchor and the drafts, acceptance, bonus and confidences in one transfer."""
    num_draft = ids.shape[0] - 1
    parts = [torch.stack([num_accepted, bonus]), ids]
    if confidences is not None:
        parts.append((confidences * _CONFIDENCE_SCALE).to(torch.int64))
    accepted, bonus_id, anchor_id, *rest = torch.cat(parts).tolist()
    scaled = None
    if confidences is not None:
        scaled = tuple(value / _CONFIDENCE_SCALE for value in rest[num_draft:])
    return anchor_id, Verified(tuple(rest[:num_draft]), accepted, bonus_id, scaled)
