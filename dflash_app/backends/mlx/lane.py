"""One request on one device, batch 1: its caches, its sampler, its random state."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from dflash_app.backends.mlx.acceptance import (
    RandomState,
    draw,
    greedy_accept,
    penalise_repetition,
    rejection_accept,
    sampling_probs,
)
from dflash_app.backends.mlx.context import ContextCache
from dflash_app.backends.mlx.dflash import DFlashDrafter, Proposal
from dflash_app.backends.mlx.rollback import new_prefix
from dflash_app.backends.mlx.target import MlxTarget
from dflash_app.engine.prefix import Prefix, PrefixSlot
from dflash_app.engine.protocol import Verified
from dflash_app.request import SamplingParams

WAITING_TOKENS = 16
"""Most tokens whose states wait for a block: so many at once cost hardly more than one."""


class MlxLane:
    """`engine.protocol.Lane` on a cache that goes back.

    MLX computes when it is asked to. Drafts are asked for while the target's forward is still being
    described, and what is kept of a step while the next one is: so the device does not wait for
    Python, and the host waits once a step. A lane that decodes plainly goes further: it starts the
    next step before it reads this one's token, as mlx-lm does.

    Args:
        target: decides every token.
        drafter: None decodes plainly.
        sampling: of both; one random state draws for both.
        block_size: query width of the drafter, anchor included.
        prefix: what an earlier lane read and this one goes on from; None starts with nothing.
        slot: where this lane leaves its caches; None frees them.
        alone: no other lane has a turn before this one closes. Else it leaves no work behind at the
            end of a turn: the other's clock would count it.
    """

    def __init__(
        self,
        target: MlxTarget,
        drafter: DFlashDrafter | None,
        sampling: SamplingParams,
        block_size: int | None = None,
        *,
        prefix: Prefix[ContextCache] | None = None,
        slot: PrefixSlot[ContextCache] | None = None,
        alone: bool = False,
    ) -> None:
        self._prefix = prefix or new_prefix(target.new_cache())
        self._alone = alone
        self._works_ahead = alone and drafter is None and self._prefix.cache.takes_back_one_token
        # The token after the anchor, where its step was started ahead: the cache holds the anchor.
        self._next: mx.array | None = None
        self._slot = slot
        # False while the caches may hold what is not in the prefix's ids, or half a forward.
        self._settled = True
        self._target = target
        self._drafter = drafter
        self._sampling = sampling
        self._taps = drafter.config.target_layer_ids if drafter is not None else ()
        self._num_masks = 0
        if drafter is not None:
            self._num_masks = (block_size or drafter.config.block_size) - 1
        self._last_logits: mx.array | None = None
        self._anchor_id: int | None = None
        # The tokens in the cache, kept only where a penalty asks what came before.
        self._history: mx.array | None = None
        if sampling.penalises:
            self._history = mx.array(self._prefix.token_ids, dtype=mx.int32)
        self._random = RandomState(sampling.seed)

    @property
    def length(self) -> int:
        """Tokens in the target's cache."""
        return self._prefix.length

    def extend(self, token_ids: Sequence[int]) -> None:
        """Prefill a chunk of the prompt: target forward, drafter context, last logits."""
        self._take_back()
        self._settled = False
        ids = mx.array(list(token_ids), dtype=mx.int32)
        self._last_logits, tapped = self._target.forward(ids, self._prefix.cache, 1, self._taps)
        self._prefix.token_ids += token_ids
        self._prefix.crop(self.length)  # a prompt stays: nothing is kept to take it back
        self._append_context(tapped)
        self._remember(ids)
        mx.eval(self._last_logits, self._prefix.cache.arrays(), self._prefix.context.arrays())
        self._settled = True

    def set_savepoint(self) -> None:
        """Let a later lane go back to what is held now; see `Prefix.go_back`."""
        self._prefix.set_savepoint()

    def first_token(self) -> int:
        """Sample the first output token from the last prefilled position; it becomes the anchor."""
        if self._last_logits is None:
            raise ValueError("extend() a prompt before asking for the first token")
        logits = self._penalised(self._last_logits)
        if self._sampling.greedy:
            token = logits.argmax(axis=-1)
        else:
            token = draw(sampling_probs(logits, self._sampling), self._random)
        self._last_logits = None
        self._anchor_id = _read(token)
        return self._anchor_id

    def propose(self, num_draft: int) -> Proposal:
        """Draft `num_draft` tokens after the anchor; 0 drafts nothing (AR).

        The query is as wide as the block whatever `num_draft` is: the drafter was trained so.
        """
        anchor_id = self._require_anchor()
        if num_draft == 0 or self._drafter is None:
            return Proposal(mx.array([], dtype=mx.int32))
        self._project()
        masks = [self._drafter.config.mask_token_id] * self._num_masks
        block = mx.array([[anchor_id, *masks]], dtype=mx.int32)
        hidden = self._drafter.draft(
            self._drafter.embed(block, self._target.embedding), self._prefix.context, self.length
        )
        proposal = self._drafter.propose(
            hidden[0, :num_draft],
            block[0, :1],
            self._target.head,
            None if self._sampling.greedy else self._sample,
        )
        mx.async_eval(proposal.token_ids)
        return proposal

    def verify(self, draft: Proposal) -> Verified:
        """Run the target over anchor and drafts, accept, and take the bonus token as new anchor.

        The caches keep every position until `rewind`. Costs the step's one wait for the device.
        """
        if self._works_ahead:
            return self._step_ahead()
        self._settled = False
        anchor_id, num_draft = self._require_anchor(), draft.token_ids.shape[0]
        ids = mx.concatenate([mx.array([anchor_id], dtype=mx.int32), draft.token_ids])
        logits, tapped = self._target.forward(ids, self._prefix.cache, num_draft + 1, self._taps)
        self._remember(ids)
        verified = self._accept(draft, self._penalised(logits))
        if tapped is not None:
            self._append_context(tapped[:, : verified.num_accepted + 1])
            self._start(self._prefix.context.arrays())
        self._prefix.token_ids += (anchor_id, *verified.drafted_ids)
        self._anchor_id = verified.bonus_id
        return verified

    def rewind(self, length: int) -> None:
        """Keep the first `length` tokens of the caches and forget the rest."""
        if self._next is not None and length == self.length:
            return  # what was started ahead stays: most runs go on
        self._take_back()
        self._prefix.crop(length)
        self._start(self._prefix.cache.replayed())
        if self._history is not None:
            self._history = self._history[:length]
        self._settled = True

    def close(self) -> None:
        """Leave the caches to the next lane or free them; free them after an error in a forward."""
        if self._slot is not None and self._settled:
            self._take_back()
            self._slot.put(self._prefix)
        self._prefix, self._slot = new_prefix(self._target.new_cache()), None
        self._last_logits = self._anchor_id = self._next = self._history = None

    def _step_ahead(self) -> Verified:
        """One step of plain decoding, read while the device computes the one after it."""
        anchor_id = self._require_anchor()
        self._settled = False
        bonus, self._next = self._next, None
        if bonus is None:
            bonus = self._feed(mx.array([anchor_id], dtype=mx.int32))
        self._prefix.token_ids.append(anchor_id)
        if self.length < self._target.context_length:
            self._next = self._feed(bonus)
            mx.async_eval(self._next)
        self._anchor_id = _read(bonus)
        self._settled = True
        return Verified((), 0, self._anchor_id)

    def _feed(self, token: mx.array) -> mx.array:
        """The token, [1] integer, after one that goes into the cache."""
        logits, _ = self._target.forward(token, self._prefix.cache, 1)
        self._remember(token)
        logits = self._penalised(logits)
        if self._sampling.greedy:
            return logits.argmax(axis=-1)
        return draw(sampling_probs(logits, self._sampling), self._random)

    def _take_back(self) -> None:
        """Take the step back that was started ahead."""
        if self._next is not None:
            self._next = None
            self._prefix.cache.crop(-1)
            if self._history is not None:
                self._history = self._history[: self.length]

    def _start(self, arrays: list[mx.array]) -> None:
        """Have computed what no token waits for: now where the next turn is another lane's."""
        if self._alone:
            mx.async_eval(arrays)
        else:
            mx.eval(arrays)

    def _accept(self, draft: Proposal, logits: mx.array) -> Verified:
        """Decide what stands; waits for the device once, for all that is read."""
        if self._sampling.greedy:
            target_ids = logits.argmax(axis=-1)
            mx.eval(target_ids, draft)
            drafted_ids = _listed(draft.token_ids)
            num_accepted, bonus_id = greedy_accept(drafted_ids, _listed(target_ids))
        else:
            decided = self._accept_drawn(draft, sampling_probs(logits, self._sampling))
            mx.eval(decided, draft)
            drafted_ids = _listed(draft.token_ids)
            num_accepted, bonus_id = map(_read, decided)
        confidences = None if draft.confidences is None else tuple(_listed(draft.confidences))
        return Verified(tuple(drafted_ids), num_accepted, bonus_id, confidences)

    def _accept_drawn(self, draft: Proposal, probs: mx.array) -> tuple[mx.array, mx.array]:
        if draft.probs is None:
            return mx.array(0), draw(probs, self._random)[0]
        return rejection_accept(draft.token_ids, draft.probs, probs, self._random)

    def _sample(self, scores: mx.array) -> tuple[mx.array, mx.array]:
        probs = sampling_probs(scores, self._sampling)
        return probs, draw(probs, self._random)

    def _remember(self, ids: mx.array) -> None:
        if self._history is not None:
            self._history = mx.concatenate([self._history, ids.astype(mx.int32)])

    def _penalised(self, logits: mx.array) -> mx.array:
        """The target's logits of the last positions under what came before each of them."""
        if self._history is None:
            return logits
        return penalise_repetition(logits, self._history, self._sampling.repetition_penalty)

    def _append_context(self, tapped: mx.array | None) -> None:
        if self._drafter is None or tapped is None:
            return
        context = self._prefix.context
        if tapped.shape[1] == 1 and context.num_waiting < WAITING_TOKENS:
            context.wait(tapped)
        else:
            self._project(tapped)

    def _project(self, *tapped: mx.array) -> None:
        """Add the tokens that wait, and those behind them, to the drafter's context."""
        context = self._prefix.context
        pieces = [*context.take_waiting(), *tapped]
        if self._drafter is not None and pieces:
            states = mx.concatenate(pieces, axis=1)
            context.append(self._drafter.project_context(states, context.length))

    def _require_anchor(self) -> int:
        if self._anchor_id is None:
            raise ValueError("first_token() makes the anchor: call it before decoding")
        return self._anchor_id


def _read(scalar: mx.array) -> int:
    value: Any = scalar.item()
    return int(value)


def _listed(array: mx.array) -> list[Any]:
    values: Any = array.tolist()
    return list(values)
