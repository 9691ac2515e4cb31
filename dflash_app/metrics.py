"""Every figure the app shows, defined once. docs/metrics.md says the same in words."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dflash_app.events import (
    DecodeEvent,
    Finished,
    PrefillDone,
    ServerCounts,
    StepDone,
    TokensArrived,
)


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
        decode_s: seconds from the first token to the end of the last step, or on a server to the
            last tokens that arrived.
        total_s: prefill and decode.
        tpot_s: decode_s / (num_output_tokens - 1). A server's first tokens may arrive several at
            once: then all of those are taken off, here and in `decode_tok_s`.
        decode_tok_s: (num_output_tokens - 1) / decode_s.
        end_to_end_tok_s: num_output_tokens / total_s, prefill included, as model cards report.
        mean_acceptance_length: 1 + accepted / steps, bonus token included; None in AR. A server's
            steps are those that drafted.
        acceptance_by_position: for draft position k, steps that accepted it / steps that drafted
            it; empty in AR.
        acceptance_histogram: number of steps by accepted drafts (index 0 = none accepted).
        propose_s: seconds spent drafting.
        verify_s: seconds spent verifying.
        peak_memory_bytes: most memory held in tensors, where the backend knows.
        at_client: the run was a server's, so all times were taken at this machine, network
            included.
        acceptance_source: who counted the drafts; None = our own engine, or nobody.
        acceptance_shared: they are a server-wide count: other traffic may be in them.
    """

    num_prompt_tokens: int | None = None
    num_reused_tokens: int | None = None
    num_output_tokens: int | None = None
    num_steps: int | None = None
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
    propose_s: float | None = None
    verify_s: float | None = None
    peak_memory_bytes: int | None = None
    at_client: bool = False
    acceptance_source: str | None = None
    acceptance_shared: bool = False

    @property
    def num_context_tokens(self) -> int:
        """Tokens of prompt and output, as far as they are known."""
        return (self.num_prompt_tokens or 0) + (self.num_output_tokens or 0)


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
    arrivals: list[TokensArrived] = []
    counts: ServerCounts | None = None
    end: Finished | None = None
    for event in events:
        if isinstance(event, PrefillDone):
            prefill = event
        elif isinstance(event, StepDone):
            steps.append(event)
        elif isinstance(event, TokensArrived):
            arrivals.append(event)
        elif isinstance(event, ServerCounts):
            counts = event
        elif isinstance(event, Finished):
            end = event
    if arrivals or counts is not None:
        return _of_server(arrivals, counts, end, peak_memory_bytes)
    if prefill is None:
        total_s = end.elapsed_s if end else None
        return RunMetrics(total_s=total_s, peak_memory_bytes=peak_memory_bytes)
    num_output = 1 + sum(len(step.token_ids) for step in steps)
    total_s = steps[-1].elapsed_s if steps else prefill.elapsed_s
    return RunMetrics(
        num_prompt_tokens=prefill.num_prompt_tokens,
        num_reused_tokens=prefill.num_reused,
        num_output_tokens=num_output,
        num_steps=len(steps),
        queue_s=prefill.queue_s,
        total_s=total_s,
        end_to_end_tok_s=num_output / total_s if total_s else None,
        propose_s=sum(step.propose_s for step in steps),
        verify_s=sum(step.verify_s for step in steps),
        peak_memory_bytes=peak_memory_bytes,
        **_speed(prefill.elapsed_s, steps[-1].elapsed_s if steps else None, num_output - 1),
        **_acceptance(steps),
    )


def _of_server(
    arrivals: list[TokensArrived],
    counts: ServerCounts | None,
    end: Finished | None,
    peak_memory_bytes: int | None,
) -> RunMetrics:
    """A run on a server: times from our clock, counts from the server where it tells them."""
    counts = counts or ServerCounts(source="")
    came = [_count(each) for each in arrivals]
    known = [each for each in came if each is not None]
    num_output = counts.num_output_tokens
    if num_output is None and len(known) == len(came):
        num_output = sum(known)
    first_s = arrivals[0].elapsed_s if arrivals else None
    last_s = arrivals[-1].elapsed_s if len(arrivals) > 1 else None
    total_s = arrivals[-1].elapsed_s if arrivals else end.elapsed_s if end else None
    at_first = (came[0] or 1) if came else 1
    return RunMetrics(
        num_prompt_tokens=counts.num_prompt_tokens,
        num_reused_tokens=counts.num_reused,
        num_output_tokens=num_output,
        num_steps=counts.num_steps,
        total_s=total_s,
        end_to_end_tok_s=num_output / total_s if num_output and total_s else None,
        peak_memory_bytes=peak_memory_bytes,
        at_client=True,
        **_speed(
            first_s,
            last_s,
            None if num_output is None else num_output - at_first,
            at_least_s=(counts.decode_s or 0.0) / 2,
        ),
        **_counted(counts),
    )


def _count(arrival: TokensArrived) -> int | None:
    return len(arrival.token_ids) or None if arrival.num_tokens is None else arrival.num_tokens


def _speed(
    first_s: float | None, last_s: float | None, num_after: int | None, at_least_s: float = 0.0
) -> dict[str, Any]:
    """Figures of the time after the first token, in which `num_after` more came.

    Less time than `at_least_s` is none of decoding: the first tokens were held up on their way, and
    the rest came right behind them (407,085 tok/s were seen so). The figures are unknown then.
    """
    decode_s = None if first_s is None or last_s is None else last_s - first_s
    if decode_s is not None and decode_s < at_least_s:
        decode_s = None
    timed = decode_s is not None and decode_s > 0 and num_after is not None and num_after > 0
    return {
        "ttft_s": first_s,
        "decode_s": decode_s,
        "tpot_s": decode_s / num_after if timed and decode_s and num_after else None,
        "decode_tok_s": num_after / decode_s if timed and decode_s and num_after else None,
    }


def _counted(counts: ServerCounts) -> dict[str, Any]:
    """Acceptance as a server counted it; nothing where it drafted nothing, or does not tell."""
    if not counts.num_steps or counts.num_accepted is None or counts.num_drafted == 0:
        return {}
    drafted = counts.drafted_by_position or (counts.num_steps,) * len(counts.accepted_by_position)
    return {
        "mean_acceptance_length": 1 + counts.num_accepted / counts.num_steps,
        "acceptance_by_position": tuple(
            count / total if total else 0.0
            for count, total in zip(counts.accepted_by_position, drafted, strict=False)
        ),
        "acceptance_histogram": counts.histogram,
        "acceptance_source": counts.source,
        "acceptance_shared": counts.shared,
    }


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
