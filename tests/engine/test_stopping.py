"""A stop reaches a run whose reader waits while the prompt is read: engine, record and page."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest

from dflash_app import session
from dflash_app.engine.local import LocalPair
from dflash_app.engine.stopping import current_stop, stopped_by
from dflash_app.engine.worker import Worker
from dflash_app.events import Finished
from dflash_app.race import RaceLane, race
from dflash_app.request import GenerationRequest, Message
from dflash_app.store.runs import Store
from dflash_app.ui.live import DeviceTurn, LiveRun
from tests.engine.scripted import ScriptedModels
from tests.engine.tiny_tokenizers import chat_tokenizer

T = TypeVar("T")
WAIT_S = 30
LONG = GenerationRequest(messages=(Message("user", "How many divisors? " * 400),), max_new_tokens=2)


class SlowPair(LocalPair):
    """Each chunk of a prompt takes until `go_on`; `reading` tells that the first one is met."""

    def __init__(self) -> None:
        self.reading, self.go_on = threading.Event(), threading.Event()
        self.models = ScriptedModels(on_extend=self._wait)
        super().__init__(
            name="slow",
            backend="none",
            tokenizer=chat_tokenizer(),
            models=self.models,
            worker=Worker("test-stopping"),
        )

    def _wait(self) -> None:
        self.reading.set()
        assert self.go_on.wait(WAIT_S)

    @property
    def num_chunks(self) -> int:
        return sum(len(lane.chunks) for lane in self.models.lanes)


@pytest.fixture
def pair() -> Iterator[SlowPair]:
    pair = SlowPair()
    yield pair
    pair.go_on.set()
    pair.close()


def stopped_while_reading(pair: SlowPair, make: Callable[[], Iterator[T]]) -> list[T]:
    """What a reader gets that is blocked in the first chunk when the stop comes."""
    stop = threading.Event()

    def read() -> list[T]:
        with stopped_by(stop):
            return list(make())

    with ThreadPoolExecutor(max_workers=1) as pool:
        events = pool.submit(read)
        assert pair.reading.wait(WAIT_S)
        stop.set()
        pair.go_on.set()
        return events.result(WAIT_S)


def is_cancelled(event: object) -> bool:
    return isinstance(event, Finished) and event.reason == "cancelled"


def test_a_prompt_takes_several_chunks_where_nobody_stops_it(pair):
    pair.go_on.set()
    assert [e.reason for e in pair.stream(LONG) if isinstance(e, Finished)] == ["length"]
    assert pair.num_chunks > 2


def test_the_reader_gets_the_last_event_and_the_rest_of_the_prompt_is_not_read(pair):
    (event,) = stopped_while_reading(pair, lambda: pair.stream(LONG))
    assert is_cancelled(event)
    assert pair.num_chunks == 1
    assert [lane.closed for lane in pair.models.lanes] == [1]


def test_a_run_stopped_while_its_prompt_is_read_is_recorded_as_cancelled(pair):
    with Store(None) as store:
        run = lambda: session.run(pair, store, LONG, source="chat")  # noqa: E731
        (event,) = stopped_while_reading(pair, run)
        (record,) = store.list_runs()
    assert is_cancelled(event)
    assert (record.finish_reason, record.error, record.output) == ("cancelled", None, "")


def test_every_lane_of_a_race_is_stopped_and_recorded_as_cancelled(pair):
    with Store(None) as store:
        lanes = [RaceLane(pair, replace(LONG, mode="ar")), RaceLane(pair, LONG)]
        events = stopped_while_reading(pair, lambda: race(lanes, store))
        reasons = [record.finish_reason for record in store.list_runs()]
    assert [lane for lane, _ in events] == [0, 1]
    assert all(is_cancelled(event) for _, event in events)
    assert reasons == ["cancelled", "cancelled"]
    assert pair.num_chunks == 1


def test_the_pages_stop_reaches_a_run_whose_prompt_is_read(pair):
    with Store(None) as store:
        live = LiveRun(lambda: session.run(pair, store, LONG, source="chat"), DeviceTurn())
        live.start()
        assert pair.reading.wait(WAIT_S)
        live.stop()
        pair.go_on.set()
        (event,) = [item for look in live.looks(0.01) for item in look]
        (record,) = store.list_runs()
    assert is_cancelled(event)
    assert (live.error, live.broken) == (None, False)
    assert record.finish_reason == "cancelled"
    assert pair.num_chunks == 1


def test_a_scope_ends_and_leaves_the_outer_one():
    outer, inner = threading.Event(), threading.Event()
    with stopped_by(outer):
        with stopped_by(inner):
            assert current_stop() is inner
        assert current_stop() is outer
    assert current_stop() is None
