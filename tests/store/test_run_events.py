import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from dflash_app.errors import StoreCorrupt, StoreError
from dflash_app.events import (
    DecodeEvent,
    Finished,
    PrefillDone,
    ServerCounts,
    StepDone,
    TextDelta,
    TokensArrived,
)
from dflash_app.metrics import RunMetrics, summarize
from dflash_app.store.records import RunStart
from dflash_app.store.run_events import decode_events, encode_events
from dflash_app.store.runs import Store

EVENTS: list[DecodeEvent] = [
    PrefillDone(12, 3, 7, 0.25, 0.500001),
    StepDone((8, 9), (8, 5, 6), 1, (0.987, 0.5, 0.0), 0.0125, 0.025, 0.54),
    StepDone((4,), (), 0, None, 0.000001, 0.02, 0.560002, "AR fallback: it pauses — 暂停."),
    StepDone((1, 2, 3), (1, 2, 3), 3, (), 0.01, 0.02, 0.59),
    Finished("stop", 0.6),
]


SERVER_EVENTS: list[DecodeEvent] = [
    TokensArrived(2, (8, 9), 0.500001),
    TokensArrived(None, (), 0.75),
    ServerCounts("vLLM, this request", False, 12, 3, 9, 4, 12, 5, (3, 2), (4, 4), (1, 1, 2), 0.2),
    Finished("length", 0.76),
]


def finish(store: Store, run_id: int, events: list[DecodeEvent]) -> None:
    store.finish_run(
        run_id, "stop", output="", token_ids=[], metrics=summarize(events), events=events
    )


def long_run(num_steps: int) -> list[DecodeEvent]:
    """Blocks of 16 with seven accepted drafts; ids, times and confidences spread as real ones."""
    events: list[DecodeEvent] = [PrefillDone(100, 0, 5, 0.0, 0.1)]
    elapsed_s, state = 0.1, 1
    for _ in range(num_steps):
        drafted = []
        for _ in range(15):
            state = state * 1103515245 + 12345 & 0x7FFFFFFF
            drafted.append(state % 151_936)
        sure = tuple((token_id % 1000) / 1000 for token_id in drafted)
        propose_s, verify_s = 0.004 + state % 997 / 1e6, 0.02 + state % 4999 / 1e6
        elapsed_s += propose_s + verify_s + 1e-5
        block = (*drafted[:7], state % 99_991)
        events.append(StepDone(block, tuple(drafted), 7, sure, propose_s, verify_s, elapsed_s))
    return [*events, Finished("length", elapsed_s)]


def test_events_read_back_as_they_came_without_the_text(store: Store, start: RunStart) -> None:
    run_id = store.start_run(start)
    finish(store, run_id, [EVENTS[0], TextDelta("eight"), *EVENTS[1:]])
    kept = store.run_events(run_id)
    assert kept == EVENTS
    assert summarize(kept) == summarize(EVENTS)


@pytest.mark.parametrize("end", range(len(EVENTS)))
def test_a_run_that_was_cut_anywhere_keeps_what_came(end: int) -> None:
    packed = encode_events(EVENTS[:end])
    assert (packed is None) == (end == 0)
    assert packed is None or decode_events(packed) == EVENTS[:end]


@pytest.mark.parametrize("end", range(1, len(SERVER_EVENTS) + 1))
def test_a_run_on_a_server_keeps_what_arrived_and_what_was_counted(end: int) -> None:
    packed = encode_events([TextDelta("x"), *SERVER_EVENTS[:end]])
    assert packed is not None
    assert decode_events(packed) == SERVER_EVENTS[:end]


def test_a_run_that_failed_before_its_first_token_keeps_nothing(
    store: Store, start: RunStart
) -> None:
    run_id = store.start_run(start)
    store.finish_run(run_id, "failed", output="", token_ids=[], metrics=RunMetrics(), error="Oh.")
    assert store.run_events(run_id) is None
    assert store.run_events(999) is None


def test_times_stay_within_a_microsecond_over_a_long_run() -> None:
    events = long_run(2000)
    packed = encode_events(events)
    assert packed is not None
    kept, came = decode_events(packed), events
    assert len(kept) == len(came)
    for one, other in zip(kept[1:-1], came[1:-1], strict=True):
        assert isinstance(one, StepDone)
        assert isinstance(other, StepDone)
        assert (one.token_ids, one.drafted_ids, one.confidences) == (
            other.token_ids,
            other.drafted_ids,
            other.confidences,
        )
        assert abs(one.elapsed_s - other.elapsed_s) < 1e-6
        assert abs(one.propose_s - other.propose_s) < 1e-6


def test_a_step_of_fifteen_random_drafts_takes_few_bytes() -> None:
    # 17 bits for each id and 10 for each confidence cannot be had for less than 54 bytes.
    packed = encode_events(long_run(5000))
    assert packed is not None
    assert len(packed) / 5000 < 120


def test_deleting_a_run_deletes_its_events_and_no_others(store: Store, start: RunStart) -> None:
    gone, kept, going = (store.start_run(start) for _ in range(3))
    for run_id in (gone, kept):
        finish(store, run_id, EVENTS)
    assert store.delete_runs([gone, going]) == 1
    assert store.run_events(gone) is None
    assert store.run_events(kept) == EVENTS


def test_a_run_that_cannot_be_finished_leaves_no_events(store: Store, database: Path) -> None:
    with pytest.raises(StoreError, match="no longer in the run database"):
        finish(store, 5, EVENTS)
    with closing(sqlite3.connect(database)) as other:
        assert other.execute("SELECT count(*) FROM run_events").fetchone() == (0,)


def test_events_that_cannot_be_written_leave_the_run_unfinished(
    store: Store, database: Path, start: RunStart
) -> None:
    run_id = store.start_run(start)
    with closing(sqlite3.connect(database)) as other:
        other.execute("DROP TABLE run_events")
    with pytest.raises(StoreError):
        finish(store, run_id, EVENTS)
    record = store.get_run(run_id)
    assert record is not None
    assert record.finish_reason is None


def damage(value: bytes) -> dict[str, bytes]:
    other_format = zlib.compress(b'{"format": 2}')
    return {
        "cut off": value[: len(value) // 2],
        "cannot be unpacked": b"\0" + value[1:],
        "this version reads 1": other_format,
        "unpacked (KeyError)": zlib.compress(b'{"format": 1}'),
    }


@pytest.mark.parametrize("told", list(damage(b"..")))
def test_damaged_events_are_refused_with_the_run_and_the_reason(
    store: Store, database: Path, start: RunStart, told: str
) -> None:
    run_id = store.start_run(start)
    finish(store, run_id, EVENTS)
    packed = encode_events(EVENTS)
    assert packed is not None
    with closing(sqlite3.connect(database)) as other, other:
        other.execute("UPDATE run_events SET events = ?", [damage(packed)[told]])
    with pytest.raises(StoreCorrupt) as caught:
        store.run_events(run_id)
    assert f"The steps of run {run_id} cannot be shown" in str(caught.value)
    assert told in str(caught.value)
    assert store.get_run(run_id) is not None


def test_a_value_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dflash_app.store.run_events.MAX_BYTES", 1000)
    packed = encode_events(long_run(50))
    assert packed is not None
    with pytest.raises(StoreCorrupt, match="cut off"):
        decode_events(packed)
