"""What a run says while it decodes. Every surface reads these types and nothing else.

A run of our own engine is PrefillDone, StepDone ..., Finished. A run on a server is TokensArrived
..., ServerCounts where the server tells them, Finished. Both have TextDelta between.

All `elapsed_s` are seconds of this run's own decoding clock: it starts when the worker takes the
job up, or when the request is sent to a server, and, in a race, stands still while another lane
computes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled"]
"""stop: a stop token or text; length: max_new_tokens or the context's end; cancelled: the reader
closed the stream."""


@dataclass(frozen=True, slots=True)
class PrefillDone:
    """The prompt was read and the first output token is known.

    Attributes:
        num_prompt_tokens: tokens of the prompt, reused ones included.
        num_reused: of those, how many came from a cache.
        token_id: the first output token, sampled from the prefill's last logits.
        queue_s: seconds that the job waited for the device, not part of `elapsed_s`.
        elapsed_s: time to first token on this run's clock.
    """

    num_prompt_tokens: int
    num_reused: int
    token_id: int
    queue_s: float
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class StepDone:
    """One step: one target forward after prefill.

    Attributes:
        token_ids: tokens committed by this step, cut at a stop token or the length limit.
        drafted_ids: tokens that were drafted and verified; empty in AR.
        num_accepted: drafts that verification accepted, bonus token excluded. Counted before the
            cut, as vLLM and z-lab count, so that figures compare.
        confidences: the drafter's probability of each draft, or None where not computed.
        propose_s: seconds spent drafting.
        verify_s: seconds of target forward, acceptance and cache rewind.
        elapsed_s: this run's clock at the end of the step.
        note: a change of policy the user should see, or None.
    """

    token_ids: tuple[int, ...]
    drafted_ids: tuple[int, ...]
    num_accepted: int
    confidences: tuple[float, ...] | None
    propose_s: float
    verify_s: float
    elapsed_s: float
    note: str | None = None


@dataclass(frozen=True, slots=True)
class TokensArrived:
    """Tokens that a server sent, timed here; how many steps made them is not told.

    Attributes:
        num_tokens: how many; None where the server does not count while it streams.
        token_ids: the tokens; empty where the server does not tell them.
        elapsed_s: since the request was sent; the first one's is the time to first token.
    """

    num_tokens: int | None
    token_ids: tuple[int, ...]
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class ServerCounts:
    """What a server itself says of a run, once, before `Finished`. None and empty: not told.

    Attributes:
        source: who says it: "vLLM, this request", "vLLM /metrics", "SGLang", "llama.cpp".
        shared: differences of counters of the whole server: other traffic may be in them.
        num_prompt_tokens: tokens of the prompt, reused ones included.
        num_reused: of those, how many came from the server's cache.
        num_output_tokens: tokens put out, as the server counts them.
        num_steps: target forwards that verified drafts.
        num_drafted: tokens drafted in them.
        num_accepted: drafts accepted in them, bonus tokens excluded.
        accepted_by_position: for draft position k, steps that accepted it.
        drafted_by_position: for draft position k, steps that drafted it; empty: all `num_steps`.
        histogram: number of steps by accepted drafts (index 0 = none accepted).
        decode_s: the server's own time from first to last token.
    """

    source: str
    shared: bool = False
    num_prompt_tokens: int | None = None
    num_reused: int | None = None
    num_output_tokens: int | None = None
    num_steps: int | None = None
    num_drafted: int | None = None
    num_accepted: int | None = None
    accepted_by_position: tuple[int, ...] = ()
    drafted_by_position: tuple[int, ...] = ()
    histogram: tuple[int, ...] = ()
    decode_s: float | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text that is certain: whole characters, never the beginning of a stop text."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every run that did not fail."""

    reason: FinishReason
    elapsed_s: float


DecodeEvent = PrefillDone | StepDone | TokensArrived | ServerCounts | TextDelta | Finished


def token_ids_of(event: DecodeEvent) -> tuple[int, ...]:
    """The output tokens that an event brings; a server may not tell them."""
    if isinstance(event, PrefillDone):
        return (event.token_id,)
    return event.token_ids if isinstance(event, StepDone | TokensArrived) else ()


def notes_of(events: Iterable[DecodeEvent]) -> list[tuple[int, str]]:
    """What the engine told of a run, each with the number of tokens that were out before."""
    notes: list[tuple[int, str]] = []
    num_tokens = 0
    for event in events:
        if isinstance(event, StepDone) and event.note is not None:
            notes.append((num_tokens, event.note))
        num_tokens += len(token_ids_of(event))
    return notes
