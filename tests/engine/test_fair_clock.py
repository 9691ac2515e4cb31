"""Turns of the lanes: whose clock runs, how long a turn lasts, and how it ends."""

from collections.abc import Iterator
from itertools import groupby

import pytest

from dflash_app.engine.fair_clock import Stopwatch, interleave
from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone
from tests.engine.scripted import FakeTime

SLICE_S = 0.125


def lane(
    time: FakeTime, clock: Stopwatch, prefill_s: float, *steps_s: float
) -> Iterator[DecodeEvent]:
    time.spend(prefill_s)
    yield PrefillDone(4, 0, 1, 0.0, clock.elapsed_s())
    for step_s in steps_s:
        time.spend(step_s)
        yield StepDone((1,), (), 0, None, 0.0, step_s, clock.elapsed_s())
    yield Finished("length", clock.elapsed_s())


def play(*lanes: tuple[float, ...], slice_s: float = SLICE_S) -> list[tuple[int, DecodeEvent]]:
    """Lanes of (prefill, step, step, ...) seconds."""
    time = FakeTime()
    clocks = [Stopwatch(time) for _ in lanes]
    made = [lane(time, clock, *costs) for clock, costs in zip(clocks, lanes, strict=True)]
    return list(interleave(made, clocks, slice_s=slice_s))


def turns(events: list[tuple[int, DecodeEvent]]) -> list[tuple[int, int]]:
    """(lane, steps) of each turn."""
    steps = [index for index, event in events if isinstance(event, StepDone)]
    return [(index, len(list(group))) for index, group in groupby(steps)]


def test_a_lane_keeps_its_turn_until_it_is_a_slice_ahead():
    found = turns(play((0.5, *[0.03125] * 20), (0.5, *[0.0625] * 10)))
    assert found == [(1, 2), (0, 8), (1, 4), (0, 8), (1, 4), (0, 4)]


def test_without_a_slice_the_lane_that_is_behind_moves_next():
    found = turns(play((0.5, *[0.0625] * 4), (0.5, *[0.125] * 2), slice_s=0.0))
    assert found == [(0, 1), (1, 1), (0, 2), (1, 1), (0, 1)]


def test_clocks_are_never_further_apart_than_a_slice_and_a_step():
    costs = ((0.5, *[0.03] * 60), (0.5, *[0.07] * 30), (0.5, *[0.2] * 10))
    reached = {0: 0.5, 1: 0.5, 2: 0.5}
    for index, event in play(*costs):
        if isinstance(event, Finished):
            break
        reached[index] = event.elapsed_s
        ahead_s = max(reached.values()) - min(reached.values())
        assert ahead_s < SLICE_S + max(costs[index])


def test_every_lane_reads_its_prompt_before_any_decodes_and_counts_its_own_work():
    events = play((0.5, 0.01), (0.125, 0.01), (0.25, 0.01))
    assert [type(event) for _, event in events[:3]] == [PrefillDone] * 3
    times_s = {index: event.elapsed_s for index, event in events if isinstance(event, PrefillDone)}
    assert times_s == pytest.approx({0: 0.5, 1: 0.125, 2: 0.25})


def test_a_lane_that_ends_leaves_the_others_the_device():
    events = play((0.5, 0.01), (0.5, *[0.01] * 50))
    ended = [index for index, event in events if isinstance(event, Finished)]
    assert ended == [0, 1]
    assert sum(isinstance(event, StepDone) for _, event in events) == 51


def test_leaving_closes_every_lane():
    closed: list[int] = []

    def endless(index: int) -> Iterator[DecodeEvent]:
        try:
            while True:
                yield PrefillDone(1, 0, 1, 0.0, 0.0)
        finally:
            closed.append(index)

    race = interleave([endless(0), endless(1)], [Stopwatch(), Stopwatch()])
    for _ in range(3):
        next(race)
    race.close()  # type: ignore[attr-defined]
    assert sorted(closed) == [0, 1]
