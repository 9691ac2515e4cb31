"""Several lanes of one prompt, recorded as one group; and whether their outputs are the same."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.engine.racing import race_lanes
from dflash_app.events import DecodeEvent
from dflash_app.metrics import RunMetrics
from dflash_app.request import GenerationRequest
from dflash_app.session import Recording, closable, describe, new_group_id, with_seed
from dflash_app.store.runs import Store

WARM_UP_TOKENS = 32
"""Decoded in every lane before a race: first calls pay for allocations and kernels."""

NEAR_TIE_LOGITS = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 0.125, "int8": 0.25}
"""Margin below which rounding alone decides between two tokens. A forward over one token and one
over a block add the same numbers in another order. bfloat16: one unit in the last place of a logit
in [16, 32); divergences were measured mostly at margins up to 0.06. int8 also rounds activations,
so that a last bit may become a 127th of a row's largest value, in float32 too: divergences were
measured at margins up to 0.19, on tiny random models. The others are chosen, not measured; nf4 adds
nothing to them."""


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """A lane before its pair is in memory.

    Attributes:
        pair: its name in the registry.
        options: how to load it; whether with the drafter follows from the request.
        request: what to decode.
    """

    pair: str
    options: LoadOptions
    request: GenerationRequest


@dataclass(frozen=True, slots=True)
class RaceLane:
    """A lane that is ready to run.

    Attributes:
        loaded: its pair, which lanes may share.
        request: what to decode.
        target_revision: commit of the target's files, where known.
        drafter_revision: commit of the drafter's files, where known.
    """

    loaded: LoadedPair
    request: GenerationRequest
    target_revision: str | None = None
    drafter_revision: str | None = None


def race(
    lanes: Sequence[RaceLane],
    store: Store,
    *,
    source: str = "race",
    group_id: str | None = None,
    owner: str | None = None,
) -> Iterator[tuple[int, DecodeEvent]]:
    """Decode lanes side by side and record each, all under one group id.

    Closing the iterator cancels every lane that still runs.

    Args:
        lanes: of one prompt; their pairs share a thread, see `engine.racing.race_lanes`.
        store: where the runs are recorded; see `session.run` for what happens where that fails.
        source: who asks.
        group_id: drawn where None.
        owner: whose runs they are, see `RunStart`.

    Yields:
        (lane, event), lane being its index. When a lane's `Finished` comes, its run is in the
        store.

    Raises:
        RequestError, GenerationFailed: from the engine; lanes that had not finished are recorded
            as failed.
        StoreError: after the last event: a lane could not be recorded.
    """
    lanes = [replace(lane, request=with_seed(lane.request)) for lane in lanes]
    group_id = group_id or new_group_id()
    recordings = [_record(lane, store, source, group_id, owner) for lane in lanes]
    try:
        started = race_lanes([(lane.loaded, lane.request) for lane in lanes])
        with closing(closable(started)) as events:
            for index, event in events:
                recordings[index].add(event)
                yield index, event
        for recording in recordings:
            recording.check_closed()
    except BaseException as error:
        for recording in recordings:
            recording.close_after(error)
        raise
    for recording in recordings:
        if recording.problem is not None:
            raise recording.problem


def _record(
    lane: RaceLane, store: Store, source: str, group_id: str, owner: str | None
) -> Recording:
    revisions = (lane.target_revision, lane.drafter_revision)
    start = describe(lane.loaded, lane.request, source, revisions, group_id, owner=owner)
    return Recording(store, start, lane.loaded)


def warm_up(lanes: Sequence[RaceLane], *, max_tokens: int = WARM_UP_TOKENS) -> None:
    """Decode the first tokens of each lane, unrecorded, so that none pays for first calls.

    Args:
        lanes: of the race that follows.
        max_tokens: most tokens of a lane.

    Raises:
        RequestError, GenerationFailed: from the engine.
    """
    short = [
        (lane.loaded, replace(lane.request, max_new_tokens=min(max_tokens, limit)))
        for lane, limit in ((lane, lane.request.max_new_tokens) for lane in lanes)
    ]
    with closing(closable(race_lanes(short))) as events:
        for _ in events:
            pass


def near_tie_logits(loaded: LoadedPair) -> float:
    """The margin below which rounding alone decides between two tokens of a pair's target."""
    limits = (loaded.dtype, loaded.quantization)
    return max(NEAR_TIE_LOGITS.get(limit or "", 0.0) for limit in limits)


def choose_baseline(lanes: Sequence[RaceLane]) -> int:
    """The lane that others are held against: the first one of plain decoding, or the first."""
    modes = [lane.request.mode for lane in lanes]
    return modes.index("ar") if "ar" in modes else 0


def speedup(baseline: RunMetrics, other: RunMetrics) -> float | None:
    """How many times as fast `other` decodes: the ratio of `decode_tok_s`; None = unknown."""
    if not baseline.decode_tok_s or other.decode_tok_s is None:
        return None
    return other.decode_tok_s / baseline.decode_tok_s


def seconds_saved(baseline: RunMetrics, other: RunMetrics) -> float | None:
    """Seconds of decoding that `other`'s tokens would have taken more at the baseline's speed.

    Negative where they took longer; None = unknown. For equal outputs that is the difference of
    both lanes' `decode_s`.
    """
    if baseline.tpot_s is None or other.decode_s is None:
        return None
    return baseline.tpot_s * (other.num_output_tokens - 1) - other.decode_s


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two outputs are the same, token by token.

    Attributes:
        identical: no token differs in what was compared; False where there was nothing to compare.
        num_compared: tokens that both outputs have.
        position: index of the first output token that differs; None where none does.
        token_a: the token there in the first output, None where it had ended.
        token_b: likewise in the second.
        text_a: that token as text.
        text_b: likewise.
        logit_a: the target's own logit of `token_a` after the common tokens, from one plain
            forward; None where it was not asked.
        logit_b: likewise of `token_b`.
        margin: |logit_a - logit_b|.
        near_tie: the margin is within rounding noise of the dtype; None where it was not asked.
        explanation: one or two sentences for the user.
    """

    identical: bool
    num_compared: int
    explanation: str
    position: int | None = None
    token_a: int | None = None
    token_b: int | None = None
    text_a: str | None = None
    text_b: str | None = None
    logit_a: float | None = None
    logit_b: float | None = None
    margin: float | None = None
    near_tie: bool | None = None


def verdict(
    loaded: LoadedPair,
    request: GenerationRequest,
    ids_a: Sequence[int],
    ids_b: Sequence[int],
    *,
    cancelled: bool = False,
    other: LoadedPair | None = None,
) -> Verdict:
    """Compare the outputs of two lanes of one prompt.

    Args:
        loaded: the pair that ran the first; asked for two logits where a token differs.
        request: either lane's request; both have the same messages and sampling.
        ids_a: output tokens of the first lane.
        ids_b: output tokens of the second.
        cancelled: a lane was cancelled, so only the common prefix can be compared.
        other: the pair that ran the second, where it is another; its precision may differ.

    Raises:
        GenerationFailed: the target could not be asked.
    """
    num_common = min(len(ids_a), len(ids_b))
    position = next((i for i in range(num_common) if ids_a[i] != ids_b[i]), None)
    if position is None and (cancelled or len(ids_a) == len(ids_b)):
        explanation = _explain_same(request, num_common, cancelled=cancelled)
        return Verdict(num_common > 0, num_common, explanation)
    if position is None:
        return _one_is_longer(loaded, request, ids_a, ids_b)
    if not request.sampling.greedy:
        return _sampled(loaded, ids_a, ids_b, position)
    return _differing(loaded, request, ids_a, ids_b, position, other=other or loaded)


def _explain_same(request: GenerationRequest, num_common: int, *, cancelled: bool) -> str:
    if cancelled:
        if num_common == 0:
            return "Nothing to compare: a lane was cancelled before its first token."
        same = f"The first {num_common} tokens are identical"
        return f"{same}; a lane was cancelled, so the rest is not compared."
    if not request.sampling.greedy:
        return f"Identical: {num_common} tokens, which sampling does not promise."
    return f"Identical: {num_common} tokens."


def _one_is_longer(
    loaded: LoadedPair, request: GenerationRequest, ids_a: Sequence[int], ids_b: Sequence[int]
) -> Verdict:
    position = min(len(ids_a), len(ids_b))
    token_a, text_a = _token_at(loaded, ids_a, position)
    token_b, text_b = _token_at(loaded, ids_b, position)
    explanation = f"The first {position} tokens are identical, but then one output goes on."
    if not request.sampling.greedy:
        explanation += f" {_NOT_PROMISED}"
    return Verdict(False, position, explanation, position, token_a, token_b, text_a, text_b)


def _sampled(
    loaded: LoadedPair, ids_a: Sequence[int], ids_b: Sequence[int], position: int
) -> Verdict:
    token_a, text_a = _token_at(loaded, ids_a, position)
    token_b, text_b = _token_at(loaded, ids_b, position)
    explanation = f"The outputs differ from token {position + 1} on. {_NOT_PROMISED}"
    num_compared = min(len(ids_a), len(ids_b))
    return Verdict(False, num_compared, explanation, position, token_a, token_b, text_a, text_b)


def _cause(loaded: LoadedPair, other: LoadedPair, *, near_tie: bool) -> str:
    precision, others = say_precision(loaded), say_precision(other)
    if near_tie:
        coarse = max(loaded, other, key=near_tie_logits)
        said = say_precision(coarse)
        return f"That is within rounding noise of {said}: a near tie that either may win."
    if precision != others:
        return f"One lane computes in {precision} and one in {others}: other weights, other words."
    if precision == "float32":
        return "That is more than rounding in float32 explains: please report it."
    # Rounding that decides between experts moved logits by up to 8.7 (docs/log.md).
    return (
        f"That is more than rounding in {precision} explains, unless it made a target with experts "
        "choose others: compare in float32, and please report it if it differs there."
    )


def _differing(
    loaded: LoadedPair,
    request: GenerationRequest,
    ids_a: Sequence[int],
    ids_b: Sequence[int],
    position: int,
    *,
    other: LoadedPair,
) -> Verdict:
    """Ask the target itself how close the two tokens were."""
    token_a, token_b = ids_a[position], ids_b[position]
    text_a, text_b = loaded.token_texts([token_a, token_b])
    logit_a, logit_b = loaded.next_logits(request, ids_a[:position], (token_a, token_b))
    margin = abs(logit_a - logit_b)
    near_tie = margin <= max(near_tie_logits(loaded), near_tie_logits(other))
    differ = (
        f"The outputs differ from token {position + 1} on: {text_a!r} against {text_b!r}, whose "
        f"logits are {margin:.3g} apart."
    )
    cause = _cause(loaded, other, near_tie=near_tie)
    return Verdict(
        identical=False,
        num_compared=min(len(ids_a), len(ids_b)),
        explanation=f"{differ} {cause}",
        position=position,
        token_a=token_a,
        token_b=token_b,
        text_a=text_a,
        text_b=text_b,
        logit_a=logit_a,
        logit_b=logit_b,
        margin=margin,
        near_tie=near_tie,
    )


def say_precision(loaded: LoadedPair) -> str:
    """What a pair's target is stored and computed in, as "nf4 in bfloat16"."""
    return f"{loaded.quantization} in {loaded.dtype}" if loaded.quantization else loaded.dtype


_NOT_PROMISED = (
    "With a temperature above 0 each run draws its own tokens: only their distribution is the same."
)


def _token_at(
    loaded: LoadedPair, token_ids: Sequence[int], position: int
) -> tuple[int | None, str | None]:
    if position >= len(token_ids):
        return None, None
    return token_ids[position], loaded.token_texts([token_ids[position]])[0]
