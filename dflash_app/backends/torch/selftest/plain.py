"""What plain decoding says after a prompt, and how much of that is rounding."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from dflash_app.backends.torch.fast import FastTarget
from dflash_app.backends.torch.lane import TorchLane
from dflash_app.backends.torch.selftest.decoding import run_lane
from dflash_app.backends.torch.selftest.oracle import GREEDY
from dflash_app.backends.torch.target import TorchTarget

MIN_DISTINCT_TOKENS = 20
"""Of a text that is good enough to compare with."""
NUM_PROMPTS = 20
NOISE_WIDTHS = (4, 7, 16, 64)
"""Of the blocks that rounding is measured with."""
UNSEEN_WIDTHS = 2.0
"""Blocks of other widths, and in other places, may move a gap as much again."""


@dataclass(frozen=True, slots=True)
class PlainText:
    """Greedy text of a target, one token at a time.

    Attributes:
        prompt: token ids.
        truth: token ids.
        logits: [len(truth), V] float32, each row the one that its token was taken from.
        noise: [len(truth)] float32, how far rounding moves the gap between two logits of a row;
            0 in float32, where no move may decide.
    """

    prompt: list[int]
    truth: list[int]
    logits: Tensor
    noise: Tensor


def decode_plainly(target: TorchTarget, num_prompt: int, num_tokens: int) -> PlainText:
    """Decode one token at a time after a prompt of random tokens.

    One token over and over would hide a cache that forgot, so other prompts are tried where the
    text falls into a loop.

    Raises:
        ValueError: it does after every one.
    """
    for seed in range(NUM_PROMPTS):
        prompt = Random(seed).choices(range(target.vocab_size), k=num_prompt)
        with recorded_logits(target) as rows:
            lane = TorchLane(target, None, GREEDY)
            truth = run_lane(lane, prompt, num_tokens, num_draft=0).token_ids
        if len(set(truth)) >= MIN_DISTINCT_TOKENS:
            break
    else:
        raise ValueError(f"after each of {NUM_PROMPTS} prompts the text repeats itself")
    logits = torch.stack(rows)
    noise = torch.zeros_like(logits[:, 0])
    if target.dtype != torch.float32:
        noise = _rounding_noise(target, prompt, truth, logits)
    return PlainText(prompt, truth, logits, noise)


@torch.inference_mode()
def _rounding_noise(
    target: TorchTarget, prompt: list[int], truth: list[int], logits: Tensor
) -> Tensor:
    """Compare the logits of one token at a time with those of whole blocks of the same text.

    No draft is rejected here, so a cache that goes back wrongly cannot hide in it.
    """
    # What is left where both round alike: a logit itself has no more digits.
    noise = torch.finfo(target.dtype).eps * logits.abs().amax(dim=-1)
    ids = torch.tensor([*prompt, *truth[:-1]], device=target.device)
    for width in NOISE_WIDTHS:
        cache = target.new_cache()
        rows = [target.forward(ids[: len(prompt)], cache, 1)[0]]
        for start in range(len(prompt), len(ids), width):
            block = ids[start : start + width]
            cache.crop(0)
            rows.append(target.forward(block, cache, len(block))[0])
        moved = torch.cat(rows).float() - logits
        noise = noise.maximum(moved.amax(dim=-1) - moved.amin(dim=-1))
    return UNSEEN_WIDTHS * noise


@contextmanager
def recorded_logits(target: TorchTarget) -> Iterator[list[Tensor]]:
    """Collect the last row of logits, [V] float32, of every forward inside."""
    rows: list[Tensor] = []
    if isinstance(target, FastTarget):
        # It runs itself and nothing else does, so this is every forward.
        forward = target.forward

        def recorded(*arguments: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
            logits, tapped = forward(*arguments, **options)
            rows.append(logits[-1].float())
            return logits, tapped

        target.forward = recorded  # type: ignore[method-assign]
        try:
            yield rows
        finally:
            target.forward = forward  # type: ignore[method-assign]
        return
    # Of the model, as a cache that goes back may run it past the target.
    hook = target.model.register_forward_hook(
        lambda model, inputs, output: rows.append(output.logits[0, -1].float())
    )
    try:
        yield rows
    finally:
        hook.remove()
