"""Several lanes of one prompt, recorded as one group; and how much faster each is."""

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
SHORT_S = 1.0
"""A run shorter than this repeats to two digits at most."""


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
    lanes = [replace(lane, request=with_seed(lane.request, lane.loaded)) for lane in lanes]
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


def choose_baseline(lanes: Sequence[RaceLane]) -> int:
    """The lane that others are held against: the first one of plain decoding, or the first."""
    modes = [lane.request.mode for lane in lanes]
    return modes.index("ar") if "ar" in modes else 0


def speedup(baseline: RunMetrics, other: RunMetrics) -> float | None:
    """How many times as fast `other` decodes: the ratio of `decode_tok_s`; None = unknown."""
    if not baseline.decode_tok_s or other.decode_tok_s is None:
        return None
    return other.decode_tok_s / baseline.decode_tok_s


def end_to_end_speedup(baseline: RunMetrics, other: RunMetrics) -> float | None:
    """The same with the prompt: the ratio of `end_to_end_tok_s`; None = unknown."""
    if not baseline.end_to_end_tok_s or other.end_to_end_tok_s is None:
        return None
    return other.end_to_end_tok_s / baseline.end_to_end_tok_s


def say_ratio(ratio: float, *runs: RunMetrics) -> str:
    """A speedup with as many digits as its runs can carry: "3.47", or "3.5" of a short one."""
    if ratio < 0.995 or all((run.total_s or 0.0) >= SHORT_S for run in runs):
        return f"{ratio:.2f}"
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"


def seconds_saved(baseline: RunMetrics, other: RunMetrics) -> float | None:
    """Seconds, prompt included, that `other`'s tokens would have taken more as the baseline goes.

    Negative where they took longer; None = unknown. For equal outputs that is the difference of
    both lanes' `total_s`.
    """
    if baseline.tpot_s is None or other.decode_s is None or other.tpot_s is None:
        return None
    if baseline.ttft_s is None or other.ttft_s is None:
        return None
    return (baseline.tpot_s / other.tpot_s - 1) * other.decode_s + baseline.ttft_s - other.ttft_s
