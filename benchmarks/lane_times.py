"""Seconds of a lane's steps after so many tokens, through the lane's own methods alone."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch

from benchmarks.bandwidth import wait
from benchmarks.time_shares import Shares, profile_steps
from dflash_app.engine.protocol import Lane
from dflash_app.engine.speculative import PREFILL_CHUNK

NUM_WARM_UP = 6
NUM_PROFILED = 8


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Medians at one context length.

    Attributes:
        step_s: a whole step: propose, verify, rewind; none in between.
        propose_s: drafting alone, waited for.
        verify_s: the target over anchor and drafts, acceptance, drafter's context, rewind.
        shares: of a profiled step.
    """

    step_s: float
    propose_s: float
    verify_s: float
    shares: Shares


def prefill(lane: Lane[Any], prompt_ids: Sequence[int]) -> None:
    """Read a prompt as the engine does, up to the first token."""
    for start in range(0, len(prompt_ids), PREFILL_CHUNK):
        lane.extend(prompt_ids[start : start + PREFILL_CHUNK])
    lane.first_token()


def take_step(lane: Lane[Any], num_draft: int) -> None:
    """As the decode loop does."""
    keep(lane, lane.propose(num_draft))


def keep(lane: Lane[Any], draft: Any) -> None:
    """Verify a draft and keep what was accepted."""
    length = lane.length
    verified = lane.verify(draft)
    lane.rewind(length + 1 + verified.num_accepted)


def time_steps(
    lane: Lane[Any], num_draft: int, count: int, device: torch.device, *, stays: bool
) -> StepTimes:
    """Take steps, then their parts, then profile some.

    Args:
        lane: prefilled.
        num_draft: drafts of every step; 0 for AR.
        count: steps of each sort.
        device: the lane's.
        stays: go back to this length after every step, untimed, as caches can that crop; others
            grow by what was accepted.
    """
    length = lane.length

    def seconds(call: Callable[[], object]) -> float:
        wait(device)
        began_s = time.perf_counter()
        call()
        wait(device)
        return time.perf_counter() - began_s

    def go_back() -> None:
        if stays:
            lane.rewind(length)

    def step() -> None:
        take_step(lane, num_draft)

    def profiled_step() -> None:
        step()
        go_back()

    whole_s, propose_s, verify_s = [], [], []
    for number in range(-NUM_WARM_UP, count):
        step_s = seconds(step)
        go_back()
        draft_s = seconds(lambda: lane.propose(num_draft))
        kept_s = seconds(partial(keep, lane, lane.propose(num_draft)))
        go_back()
        if number >= 0:
            whole_s.append(step_s)
            propose_s.append(draft_s)
            verify_s.append(kept_s)
    shares = profile_steps(profiled_step, NUM_PROFILED, device)
    return StepTimes(median(whole_s), median(propose_s), median(verify_s), shares)
