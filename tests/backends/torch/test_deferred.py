"""Plain steps of a drafting lane leave the drafter's context to the next block, which finds it."""

from contextlib import closing
from itertools import cycle
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor

from dflash_app.backends.torch.deferred import MOST_WAITING, DeferredContext
from dflash_app.backends.torch.models import TorchModels
from dflash_app.engine.policy import AdaptiveDrafts
from dflash_app.engine.speculative import decode
from dflash_app.engine.step_costs import StepCosts
from dflash_app.events import StepDone
from dflash_app.request import SamplingParams
from tests.backends.torch.turns import assert_same_context
from tests.engine.scripted import output

GREEDY = SamplingParams()
PROMPT = [5, 17, 3, 42, 8, 11, 29]


class Log:
    """A context that holds numbers and knows in which pieces they came."""

    def __init__(self) -> None:
        self.held: list[float] = []
        self.pieces: list[int] = []

    @property
    def length(self) -> int:
        return len(self.held)

    def extend(self, tapped: Tensor) -> None:
        self.held += tapped[0, :, 0].tolist()
        self.pieces.append(tapped.shape[1])

    def draft(self, block_embeddings: Tensor) -> Tensor:
        return block_embeddings + sum(self.held)

    def crop(self, length: int) -> None:
        del self.held[length:]


def states(*numbers: float) -> Tensor:
    return torch.tensor(numbers).view(1, -1, 1)


def test_single_tokens_wait_for_a_block_and_longer_pieces_do_not() -> None:
    log = Log()
    context = DeferredContext(log)
    reused = states(0)
    context.extend(states(1, 2))
    for number in (3, 4, 5):
        reused.fill_(number)  # as a graph writes the next token's states over the last one's
        context.extend(reused)
    assert (log.held, context.length) == ([1, 2], 5)
    assert context.draft(torch.zeros(1)).item() == 15
    context.extend(states(6))
    context.extend(states(7, 8))
    assert log.held == [1, 2, 3, 4, 5, 6, 7, 8]
    assert log.pieces == [2, 3, 1, 2]


def test_few_tokens_wait_however_long_a_run_stays_plain() -> None:
    log = Log()
    context = DeferredContext(log)
    for number in range(3 * MOST_WAITING + 1):
        context.extend(states(number))
    assert log.pieces == [MOST_WAITING] * 3
    assert context.length == 3 * MOST_WAITING + 1


@pytest.mark.parametrize("length", range(6))
def test_tokens_that_wait_can_be_taken_back(length: int) -> None:
    log = Log()
    context = DeferredContext(log)
    context.extend(states(0, 1, 2))
    for number in (3, 4):
        context.extend(states(number))
    context.crop(length)
    assert context.length == length
    context.extend(states(9))
    context.projected()
    assert log.held == [*range(length), 9]


def decode_with(models: TorchModels, lane: Any, policy: Any, num_tokens: int) -> list[Any]:
    return list(
        decode(
            lane, PROMPT, policy=policy, max_new_tokens=num_tokens, eos_ids=frozenset(),
            context_length=models.context_length, clock=perf_counter, cancelled=lambda: False,
        )
    )  # fmt: skip


class InTurns:
    """Draft lengths one after the other, whatever comes of them."""

    def __init__(self, *widths: int) -> None:
        self._widths = cycle(widths)

    def num_draft(self) -> int:
        return next(self._widths)

    def observe(self, *told: object) -> None:
        del told


@pytest.mark.parametrize(
    "widths", [(0, 0, 0, 15), (3, 0, 15, 0, 0, 1), (*[0] * 20, 7), (*[0] * (MOST_WAITING + 3), 7)]
)
def test_a_lane_whose_draft_length_changes_is_lossless_and_its_context_is_whole(
    models: TorchModels, widths: tuple[int, ...]
) -> None:
    num_tokens = max(90, len(widths) + 9)
    with closing(models.open_lane(GREEDY, "ar")) as lane:
        truth = output(decode_with(models, lane, InTurns(0), num_tokens))
    lane = models.open_lane(GREEDY, "dflash")
    events = decode_with(models, lane, InTurns(*widths), num_tokens)
    assert output(events) == truth
    steps = [event for event in events if isinstance(event, StepDone)]
    assert {len(step.drafted_ids) for step in steps[: len(widths)]} == set(widths)
    fresh = models.open_lane(GREEDY, "dflash")
    fresh.extend((PROMPT + truth)[: lane.length])
    assert_same_context(lane._prefix.context, fresh._prefix.context)


def test_adaptive_drafts_by_measured_times_are_lossless(models: TorchModels) -> None:
    with closing(models.open_lane(GREEDY, "ar")) as lane:
        truth = output(decode_with(models, lane, InTurns(0), 120))
    costs = StepCosts(15)
    with closing(models.open_lane(GREEDY, "dflash")) as lane:
        assert output(decode_with(models, lane, AdaptiveDrafts(costs), 120)) == truth
    assert costs.unmeasured is None
