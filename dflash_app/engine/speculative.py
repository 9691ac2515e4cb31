"""The one decode loop: prefill, then propose, verify, rewind. AR is the loop with zero drafts."""

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from dflash_app.engine.policy import DraftPolicy
from dflash_app.engine.protocol import Lane, Verified
from dflash_app.events import Finished, FinishReason, PrefillDone, StepDone

PREFILL_CHUNK = 512
"""Prompt tokens between two looks at `cancelled`: a long prompt can be stopped while it is read."""

DraftT = TypeVar("DraftT")


def decode(
    lane: Lane[DraftT],
    prompt_ids: Sequence[int],
    *,
    policy: DraftPolicy,
    max_new_tokens: int,
    eos_ids: frozenset[int],
    context_length: int,
    clock: Callable[[], float],
    cancelled: Callable[[], bool],
    queue_s: float = 0.0,
    prefill_chunk: int = PREFILL_CHUNK,
    stable_length: int = 0,
) -> Generator[PrefillDone | StepDone | Finished, None, None]:
    """Decode one request on an open lane; the caller closes the lane.

    Before a step the target's cache holds `length` tokens and the anchor is not among them. The
    step feeds anchor and drafts, accepts `a` drafts, and the cache keeps length + 1 + a tokens; of
    a step that is cut, what was put out and no more, so that a later turn finds it there.

    Args:
        lane: fresh, or holding a prefix of the prompt that is not read again.
        prompt_ids: at least one token more than the lane holds, at most `context_length`.
        policy: drafts wanted in each step. They are clipped to the tokens that may still come and
            to the context's end, as z-lab's loop clips its last block, so that figures compare.
        max_new_tokens: at least 1.
        eos_ids: tokens that end the run; they are put out.
        context_length: positions that the target can hold.
        clock: seconds of this run's own work.
        cancelled: looked at between prefill chunks and between steps.
        queue_s: passed through to PrefillDone.
        prefill_chunk: most prompt tokens in one forward.
        stable_length: prompt tokens after which the lane sets a savepoint; 0 sets none.

    Yields:
        PrefillDone, then a StepDone per target forward, then Finished. A run that is cancelled
        during prefill yields Finished alone.
    """
    num_prompt, num_reused = len(prompt_ids), lane.length
    if not 0 <= num_reused < num_prompt <= context_length or max_new_tokens < 1:
        raise ValueError(
            f"Cannot decode {max_new_tokens} tokens after {num_prompt} prompt tokens, "
            f"{num_reused} of them held, in a context of {context_length}."
        )
    start = num_reused
    for end in _chunk_ends(num_reused, num_prompt, prefill_chunk, stable_length):
        if cancelled():
            yield Finished("cancelled", clock())
            return
        lane.extend(prompt_ids[start:end])
        if end == stable_length:
            lane.set_savepoint()
        start = end
    anchor_id = lane.first_token()
    yield PrefillDone(num_prompt, num_reused, anchor_id, queue_s, clock())

    length, remaining = num_prompt, max_new_tokens - 1
    reason = _reason((anchor_id,), eos_ids, min(remaining, context_length - length))
    while reason is None and not cancelled():
        started_s = clock()
        room = min(remaining, context_length - length - 1)
        draft = lane.propose(min(policy.num_draft(), room))
        proposed_s = clock()
        verified = lane.verify(draft)
        token_ids = _cut(verified.token_ids, eos_ids, remaining)
        length += len(token_ids)
        lane.rewind(length)
        ended_s = clock()
        remaining -= len(token_ids)
        step_s = ended_s - started_s
        on_device_s = verified.propose_s
        propose_s = proposed_s - started_s if on_device_s is None else min(on_device_s, step_s)
        yield StepDone(
            token_ids=token_ids,
            drafted_ids=verified.drafted_ids,
            num_accepted=verified.num_accepted,
            confidences=verified.confidences,
            propose_s=propose_s,
            verify_s=step_s - propose_s,
            elapsed_s=ended_s,
            note=_observe(policy, verified, step_s),
        )
        reason = _reason(token_ids, eos_ids, min(remaining, context_length - length))
    yield Finished(reason or "cancelled", clock())


def _chunk_ends(start: int, stop: int, chunk: int, stable_length: int) -> list[int]:
    """Where the forwards of a prefill end: one of them at the stable length, where it is ahead."""
    ends = {*range(start + chunk, stop, chunk), stop}
    if start < stable_length < stop:
        ends.add(stable_length)
    return sorted(ends)


def _observe(policy: DraftPolicy, verified: Verified, step_s: float) -> str | None:
    """Tell the policy of a step, and the user of what it began or spent on starting up."""
    # What a step costs that records is no measure of the next ones.
    steady_s = None if verified.startup_s else step_s
    note = policy.observe(
        len(verified.drafted_ids), verified.num_accepted, steady_s, verified.confidences
    )
    if verified.startup_s and note is None:
        return f"Start-up: {verified.startup_s:.2f} s of this step went into recording it."
    return note


def _cut(token_ids: tuple[int, ...], eos_ids: frozenset[int], limit: int) -> tuple[int, ...]:
    """At most `limit` tokens, up to the first stop token, which stays."""
    for index, token_id in enumerate(token_ids[:limit]):
        if token_id in eos_ids:
            return token_ids[: index + 1]
    return token_ids[:limit]


def _reason(token_ids: tuple[int, ...], eos_ids: frozenset[int], room: int) -> FinishReason | None:
    """Why the run ends after these tokens, or None; a stop token at the limit is a stop."""
    if token_ids[-1] in eos_ids:
        return "stop"
    return "length" if room <= 0 else None
