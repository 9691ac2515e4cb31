"""Turns of a chat on tiny models: each lane leaves its caches to the next."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dflash_app.backends.torch.context import ContextCache
from dflash_app.backends.torch.decode_path import fastest_drafter, fastest_target
from dflash_app.backends.torch.deferred import DeferredContext
from dflash_app.backends.torch.dflash import DFlashDrafter, Proposal
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.selftest.tiny_families import VOCAB_SIZE, build_model
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.speculative import decode
from dflash_app.events import DecodeEvent, PrefillDone, StepDone

BLOCK_SIZE = 8
NUM_TOKENS = 9
"""Of a turn's reply."""


def tiny_models(
    make_drafter: Callable[..., DFlashDrafter],
    name: str,
    *,
    snapshot: bool = False,
    fast: bool = True,
    **changes: Any,
) -> TorchModels:
    """A tiny target of a family with a random drafter, where one can read its hidden states."""
    target = fastest_target(TorchTarget(build_model(name, **changes), snapshot=snapshot), fast=fast)
    shape = {"block_size": BLOCK_SIZE, "target_layer_ids": (0, 2, 3)}
    mask = {"mask_token_id": target.vocab_size - 1}
    if name == "deepseek_v4":  # no drafter in z-lab's format reads its several streams
        return TorchModels(target, None)
    drafter = make_drafter(target.vocab_size, dflash_config={**shape, **mask})
    return TorchModels(target, fastest_drafter(drafter, fast=fast))


def layers_of(context: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values that a drafter's context holds, on either path."""
    if isinstance(context, DeferredContext):
        context = context.projected()
    if isinstance(context, ContextCache):
        return list(context.layers())
    return [(views.keys, views.values) for views in context.kv.views(0)]


def assert_same_context(one: Any, other: Any, *, atol: float = 1e-3) -> None:
    """Both hold the same tokens, as far as their keys and values tell."""
    for found, expected in zip(layers_of(one), layers_of(other), strict=True):
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.shape == theirs.shape
            assert torch.allclose(mine, theirs, atol=atol)


def held(models: TorchModels) -> Any:
    """The prefix that the last lane left, or None."""
    return models._left_by_last_lane._kept


@dataclass(frozen=True)
class Turn:
    """What one turn put out and how much of its prompt came from the turn before."""

    token_ids: list[int]
    num_reused: int | None


def read(
    lane: TorchLane,
    prompt: Sequence[int],
    num_tokens: int = NUM_TOKENS,
    *,
    num_draft: int = 0,
    stable_length: int = 0,
    stop_id: int = -1,
    cancel_after: int = 1000,
    chunk: int = 512,
) -> Turn:
    """Decode one turn and close its lane, after so many events where it is cancelled."""
    events: list[DecodeEvent] = []
    for event in decode(
        lane,
        prompt,
        policy=FixedDrafts(num_draft),
        max_new_tokens=num_tokens,
        eos_ids=frozenset({stop_id}),
        context_length=512,
        clock=lambda: 0.0,
        cancelled=lambda: len(events) >= cancel_after,
        prefill_chunk=chunk,
        stable_length=stable_length,
    ):
        events.append(event)
    lane.close()
    return turn_of(events)


def turn_of(events: Iterable[DecodeEvent]) -> Turn:
    """What the events of one turn tell."""
    token_ids: list[int] = []
    num_reused = None
    for event in events:
        if isinstance(event, PrefillDone):
            token_ids.append(event.token_id)
            num_reused = event.num_reused
        elif isinstance(event, StepDone):
            token_ids += event.token_ids
    return Turn(token_ids, num_reused)


def force(lane: TorchLane, text: Sequence[int], accepted: Sequence[int]) -> TorchLane:
    """Make a lane draft the true text, wrong after so many drafts of each step."""
    wanted = iter(accepted)

    def propose(num_draft: int) -> Proposal:
        start = lane.length + 1
        draft = list(text[start : start + num_draft])
        draft += [0] * (num_draft - len(draft))
        wrong_from = next(wanted, num_draft)
        draft[wrong_from:] = [(token + 1) % VOCAB_SIZE for token in draft[wrong_from:]]
        return Proposal(torch.tensor(draft, dtype=torch.int64))

    lane.propose = propose  # type: ignore[method-assign]
    return lane
