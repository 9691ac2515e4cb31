"""Every figure the app shows, defined once. docs/metrics.md says the same in words."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """Figures of one run; None means unknown, never 0.

    Attributes:
        num_prompt_tokens: tokens of the prompt, reused ones included.
        num_reused_tokens: of those, how many came from the cache of an earlier turn.
        num_output_tokens: tokens put out, stop token included.
        num_steps: target forwards after prefill.
        queue_s: wait for the device.
        ttft_s: time to first token, queue wait apart.
        decode_s: seconds from the first token to the end of the last step.
        total_s: prefill and decode.
        tpot_s: decode_s / (num_output_tokens - 1).
        decode_tok_s: (num_output_tokens - 1) / decode_s.
        end_to_end_tok_s: num_output_tokens / total_s, prefill included, as model cards report.
        mean_acceptance_length: 1 + accepted / steps, bonus token included; None in AR.
        acceptance_by_position: for draft position k, steps that accepted it / steps that drafted
            it; empty in AR.
        acceptance_histogram: number of steps by accepted drafts (index 0 = none accepted).
        propose_s: seconds spent drafting.
        verify_s: seconds spent verifying.
        peak_memory_bytes: most memory held in tensors, where the backend knows.
    """

    num_prompt_tokens: int | None = None
    num_reused_tokens: int | None = None
    num_output_tokens: int = 0
    num_steps: int = 0
    queue_s: float | None = None
    ttft_s: float | None = None
    decode_s: float | None = None
    total_s: float | None = None
    tpot_s: float | None = None
    decode_tok_s: float | None = None
    end_to_end_tok_s: float | None = None
    mean_acceptance_length: float | None = None
    acceptance_by_position: tuple[float, ...] = ()
    acceptance_histogram: tuple[int, ...] = ()
    propose_s: float = 0.0
    verify_s: float = 0.0
    peak_memory_bytes: int | None = None


def summarize(events: Iterable[DecodeEvent], *, peak_memory_bytes: int | None = None) -> RunMetrics:
    """Fold a run's events, complete or cut anywhere, into its figures.

    Args:
        events: in the order they came; may stop early.
        peak_memory_bytes: passed through.

    Returns:
        The figures of what has happened so far.
    """
    prefill: PrefillDone | None = None
    steps: list[StepDone] = []
    total_s: float | None = None
    for event in events:
        if isinstance(event, PrefillDone):
            prefill, total_s = event, event.elapsed_s
        elif isinstance(event, StepDone):
            steps.append(event)
            total_s = event.elapsed_s
        elif isinstance(event, Finished) and total_s is None:
            total_s = event.elapsed_s
    if prefill is None:
        return RunMetrics(total_s=total_s, peak_memory_bytes=peak_memory_bytes)
    num_output = 1 + sum(len(step.token_ids) for step in steps)
    decode_s = steps[-1].elapsed_s - prefill.elapsed_s if steps else None
    timed = decode_s is not None and decode_s > 0 and num_output > 1
    return RunMetrics(
        num_prompt_tokens=prefill.num_prompt_tokens,
        num_reused_tokens=prefill.num_reused,
        num_output_tokens=num_output,
        num_steps=len(steps),
        queue_s=prefill.queue_s,
        ttft_s=prefill.elapsed_s,
        decode_s=decode_s,
        total_s=total_s,
        tpot_s=decode_s / (num_output - 1) if timed and decode_s else None,
        decode_tok_s=(num_output - 1) / decode_s if timed and decode_s else None,
        end_to_end_tok_s=num_output / total_s if total_s else None,
        propose_s=sum(step.propose_s for step in steps),
        verify_s=sum(step.verify_s for step in steps),
        peak_memory_bytes=peak_memory_bytes,
        **_acceptance(steps),
    )


def _acceptance(steps: list[StepDone]) -> dict[str, Any]:
    """Acceptance figures of the steps; nothing where no step drafted."""
    width = max((len(step.drafted_ids) for step in steps), default=0)
    if width == 0:
        return {}
    drafted, accepted, histogram = [0] * width, [0] * width, [0] * (width + 1)
    for step in steps:
        histogram[step.num_accepted] += 1
        for position in range(len(step.drafted_ids)):
            drafted[position] += 1
            accepted[position] += position < step.num_accepted
    return {
        "mean_acceptance_length": 1 + sum(step.num_accepted for step in steps) / len(steps),
        "acceptance_by_position": tuple(
            count / total if total else 0.0 for count, total in zip(accepted, drafted, strict=True)
        ),
        "acceptance_histogram": tuple(histogram),
    }
