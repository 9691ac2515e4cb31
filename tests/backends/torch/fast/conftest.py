"""Tiny models twice: as they were, and on the fast path."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.backends.torch.fast import FastDrafter, FastTarget
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.request import SamplingParams


def randomise(module: torch.nn.Module, *, bfloat16: bool) -> None:
    """Give every norm and bias something to do, and weights a checkpoint's precision."""
    torch.manual_seed(3)
    for parameter in module.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=0.8, std=0.3)
        if bfloat16:
            parameter.data = parameter.data.bfloat16().float()


@pytest.fixture(scope="session")
def both_targets(make_target: Callable[..., TorchTarget]) -> Callable[..., Any]:
    """(family, bfloat16, **shape) -> the same target through transformers and on the fast path."""

    def make(
        family: str = "qwen3", *, bfloat16: bool = True, **shape: Any
    ) -> tuple[TorchTarget, FastTarget]:
        slow = make_target(family, 96, **shape)
        randomise(slow.model, bfloat16=bfloat16)
        return slow, FastTarget(deepcopy(slow.model))

    return make


@pytest.fixture(scope="session")
def both_drafters(make_drafter: Callable[..., DFlashDrafter]) -> Callable[..., Any]:
    """(bfloat16, **config) -> the same drafter as a module and on the fast path."""

    def make(*, bfloat16: bool = True, **config: Any) -> tuple[DFlashDrafter, FastDrafter]:
        slow = make_drafter(96, **config)
        randomise(slow, bfloat16=bfloat16)
        return slow, FastDrafter(deepcopy(slow))

    return make


@pytest.fixture(scope="session")
def open_fast_lane() -> Callable[..., TorchLane]:
    def open_lane(
        target: FastTarget,
        drafter: FastDrafter | None,
        sampling: SamplingParams | None = None,
        block_size: int | None = None,
    ) -> TorchLane:
        return TorchLane(target, drafter, sampling or SamplingParams(), block_size)

    return open_lane


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets of 16, 32, 48, 64, 96 ... tokens; from 64 on, attention in parts."""
    monkeypatch.setattr("dflash_app.backends.torch.fast.steps.FIRST_BUCKET", 16)
    monkeypatch.setattr("dflash_app.hub.capacity.FIRST_CAPACITY", 16)
    monkeypatch.setattr("dflash_app.backends.torch.fast.attention.KEYS_OF_A_SPLIT", 16)
