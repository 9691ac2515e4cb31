"""Verifications that accept a given number of drafts, whatever the weights say.

Random weights agree with no draft, and a cycle's cost is wanted at the acceptance of a trained
pair. Everything is computed as always; only what is read off the logits is set. The texts are
noise: such figures are cycle times, not quality.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dflash_app.backends.torch import acceptance


@contextmanager
def forced_acceptance(num_accepted: int) -> Iterator[None]:
    """Our greedy lanes accept so many drafts of each block, until the block is left.

    Open lanes, and capture graphs, inside.

    Args:
        num_accepted: fewer where fewer were drafted.
    """
    real = acceptance.greedy_accept

    def forced(draft_ids: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        accepted, bonus = real(draft_ids, logits)
        return torch.full_like(accepted, min(num_accepted, draft_ids.shape[0])), bonus

    users = [
        module
        for module in list(sys.modules.values())
        if getattr(module, "__dict__", {}).get(real.__name__) is real
    ]
    for module in users:
        setattr(module, real.__name__, forced)
    try:
        yield
    finally:
        for module in users:
            setattr(module, real.__name__, real)


@contextmanager
def forced_logits(model: Any, num_accepted: int) -> Iterator[None]:
    """A transformers model says what was drafted, and something else after so many drafts.

    For loops that are not ours: a forward over several tokens with logits for all of them is a
    verification.

    Args:
        model: with a language model's head.
        num_accepted: fewer where fewer were drafted.
    """

    def force(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        logits, width = output.logits[0], ids.shape[1]
        if width == 1 or logits.shape[0] != width:
            return
        drafts, accepted = ids[0, 1:, None], min(num_accepted, width - 1)
        logits[:accepted].scatter_(1, drafts[:accepted], float("inf"))
        if accepted < width - 1:
            logits[accepted, drafts[accepted]] = float("-inf")

    handle = model.register_forward_hook(force, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
