"""The acceptance that counts: held-out prompts decoded by the real engine."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dflash_app.backends.torch.models import TorchModels
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.speculative import decode
from dflash_app.events import DecodeEvent, PrefillDone, StepDone
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.request import Mode, SamplingParams


@dataclass(frozen=True, slots=True)
class Decoded:
    """One prompt's greedy output.

    Attributes:
        token_ids: stop token included.
        num_accepted: drafts accepted in all steps.
        metrics: of the run.
    """

    token_ids: tuple[int, ...]
    num_accepted: int
    metrics: RunMetrics


def decode_greedy(
    models: TorchModels,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    mode: Mode = "dflash",
) -> Decoded:
    """Decode through the engine's own loop, on the calling thread.

    Args:
        models: target and drafter (needed in mode "dflash").
        prompt_ids: at least one token.
        max_new_tokens: limit.
        mode: "dflash" or "ar".
    """
    lane = models.open_lane(SamplingParams(), mode)
    num_drafts = (models.block_size or 1) - 1 if mode == "dflash" else 0
    started = time.perf_counter()
    events: list[DecodeEvent] = list(
        decode(
            lane,
            prompt_ids,
            policy=FixedDrafts(num_drafts),
            max_new_tokens=max_new_tokens,
            eos_ids=models.eos_ids,
            context_length=models.context_length,
            clock=lambda: time.perf_counter() - started,
            cancelled=lambda: False,
        )
    )
    lane.close()
    token_ids: tuple[int, ...] = ()
    num_accepted = 0
    for event in events:
        if isinstance(event, PrefillDone):
            token_ids += (event.token_id,)
        elif isinstance(event, StepDone):
            token_ids += event.token_ids
            num_accepted += event.num_accepted
    return Decoded(token_ids, num_accepted, summarize(events))


def mean_acceptance_length(decoded: Iterable[Decoded]) -> float | None:
    """1 + accepted / steps over several runs; None where no run had a step."""
    runs = list(decoded)
    num_steps = sum(run.metrics.num_steps or 0 for run in runs)
    if num_steps == 0:
        return None
    return 1 + sum(run.num_accepted for run in runs) / num_steps
