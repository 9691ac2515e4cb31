"""A run is read by its own thread, looked at seldom, stopped within a step, and never shared."""

import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from dflash_app.errors import GenerationFailed, QueueFull
from dflash_app.ui.live import DeviceTurn, LiveRun, LiveRuns


class Source:
    """Counts up until it is closed; remembers the thread it ran in."""

    def __init__(self, limit: int = 1_000_000, pause_s: float = 0.001) -> None:
        self.limit, self.pause_s = limit, pause_s
        self.closed = threading.Event()
        self.threads: set[int] = set()
        self.num_made = 0

    def __call__(self) -> Iterator[int]:
        try:
            for number in range(self.limit):
                self.threads.add(threading.get_ident())
                self.num_made += 1
                yield number
                time.sleep(self.pause_s)
        finally:
            self.threads.add(threading.get_ident())
            self.closed.set()


def test_every_item_comes_once_and_in_order() -> None:
    run = LiveRun(Source(200), DeviceTurn())
    items = [item for look in run.looks(0.01) for item in look]
    assert items == list(range(200))
    assert (run.phase, run.error, run.broken) == ("ended", None, False)


def test_looks_are_far_fewer_than_items() -> None:
    began_s = time.monotonic()
    looks = list(LiveRun(Source(300), DeviceTurn()).looks(0.1))
    assert sum(map(len, looks)) == 300
    assert len(looks) <= (time.monotonic() - began_s) / 0.1 + 2


def test_one_thread_reads_and_closes_the_run() -> None:
    source = Source(50)
    list(LiveRun(source, DeviceTurn()).looks(0.01))
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


def test_stop_closes_the_run_within_a_step_and_keeps_what_came() -> None:
    source = Source()
    run = LiveRun(source, DeviceTurn())
    looks = run.looks(0.01)
    items = next(looks) + next(looks)
    run.stop()
    assert source.closed.wait(30)
    items += [item for look in looks for item in look]
    assert items == list(range(len(items)))
    assert source.num_made - len(items) <= 1
    assert run.phase == "ended"


def test_a_reader_that_leaves_stops_the_run() -> None:
    source = Source()
    looks = LiveRun(source, DeviceTurn()).looks(0.01)
    next(looks)
    looks.close()
    assert source.closed.wait(30)


def test_an_error_is_kept_with_what_came_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise GenerationFailed("Out of memory: choose a smaller pair.")

    run = LiveRun(source, DeviceTurn())
    assert [item for look in run.looks(0.01) for item in look] == [1]
    assert str(run.error) == "Out of memory: choose a smaller pair."
    assert not run.broken


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_ends_the_run_instead_of_hanging_the_page() -> None:
    def source() -> Iterator[int]:
        raise ZeroDivisionError

    run = LiveRun(source, DeviceTurn())
    assert list(run.looks(0.01))[-1] == []
    assert run.broken
    for thread in threading.enumerate():  # its traceback belongs to this test
        if thread.name == "live-run":
            thread.join(5)


def test_only_loading_counts_its_seconds() -> None:
    loading, loaded = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        loading.set()
        loaded.wait(10)
        return iter([1, 2])

    run = LiveRun(source, DeviceTurn())
    assert run.loading_s == 0
    run.start()
    assert loading.wait(10)
    first_s = run.loading_s
    time.sleep(0.01)
    assert 0 < first_s < run.loading_s
    loaded.set()
    assert [item for look in run.looks(0.01) for item in look] == [1, 2]
    assert run.loading_s == 0


def test_a_waiting_run_goes_on_once_the_device_is_free() -> None:
    turn = DeviceTurn()
    running = LiveRun(Source(), turn)
    looks = running.looks(0.01)
    next(looks)
    waiting = LiveRun(Source(3), turn)
    waiting.start()
    time.sleep(0.15)
    assert waiting.phase == "waiting"
    running.stop()
    assert [item for look in waiting.looks(0.01) for item in look] == [0, 1, 2]


def test_a_waiting_run_can_be_stopped_and_never_starts() -> None:
    turn = DeviceTurn()
    running = LiveRun(Source(), turn)
    looks = running.looks(0.01)
    next(looks)
    source = Source()
    waiting = LiveRun(source, turn)
    waiting.start()
    waiting.stop()
    list(waiting.looks(0.01))
    assert source.num_made == 0
    running.stop()


def test_a_run_begins_with_the_first_look_and_once() -> None:
    source = Source(3)
    run = LiveRun(source, DeviceTurn())
    time.sleep(0.05)
    assert (run.phase, source.num_made) == ("waiting", 0)
    run.start()
    assert [item for look in run.looks(0.01) for item in look] == [0, 1, 2]
    assert list(run.looks(0.01)) == [[]]


def test_a_run_that_was_stopped_before_the_first_look_never_starts() -> None:
    source = Source()
    run = LiveRun(source, DeviceTurn())
    run.stop()
    assert list(run.looks(0.01)) == [[]]
    assert (run.phase, source.num_made) == ("ended", 0)


def test_sessions_stop_only_their_own_runs() -> None:
    runs = LiveRuns()
    mine = runs.start("me", "chat", Source())
    other = runs.start("you", "chat", Source())
    runs.stop("me", "compare")
    assert not mine.stopped
    runs.leave("me")
    assert mine.stopped
    assert not other.stopped
    runs.stop("you", "chat")
    assert other.stopped
    assert not other.dropped


def test_a_run_can_be_dropped_even_after_it_was_stopped() -> None:
    runs = LiveRuns()
    run = runs.start("me", "chat", Source())
    runs.stop("me", "chat")
    assert not run.dropped
    runs.drop("me", "chat")
    assert run.dropped
    assert run.stopped


def test_a_new_run_in_the_same_place_stops_the_one_before() -> None:
    runs = LiveRuns()
    before = runs.start("me", "chat", Source())
    after = runs.start("me", "chat", Source())
    assert before.stopped
    assert not after.stopped
    after.stop()


def test_the_turn_is_taken_now_only_where_nobody_has_it() -> None:
    turn = DeviceTurn()
    with turn.taken_now() as first, turn.taken_now() as second:
        assert (first, second) == (True, False)
    with turn.taken_now() as again:
        assert again


def held(turn: DeviceTurn, visitor: str | None = None) -> LiveRun[int]:
    """A run that has its place in the line of `turn`."""
    run = LiveRun(Source(), turn, visitor)
    run.start()
    while run.num_before is None and run.phase != "ended":
        time.sleep(0.001)
    return run


def end_all(runs: list[LiveRun[int]]) -> None:
    for run in runs:
        run.stop()
        list(run.looks(0.01))


def test_who_comes_first_is_served_first_and_each_knows_its_place() -> None:
    turn = DeviceTurn()
    runs = [held(turn) for _ in range(4)]
    assert [run.num_before for run in runs] == [0, 1, 2, 3]
    runs[1].stop()
    list(runs[1].looks(0.01))
    while [run.num_before for run in runs[2:]] != [1, 2]:  # each hears of it on its own thread
        time.sleep(0.001)
    runs[0].stop()
    assert any(runs[2].looks(0.01))  # it runs, and looking no more stops it
    end_all(runs)


def test_a_full_line_refuses_with_the_place_it_would_have_been() -> None:
    turn = DeviceTurn(max_waiting=2)
    runs = [held(turn) for _ in range(3)]
    refused = held(turn)
    assert isinstance(refused.error, QueueFull)
    assert "3 requests are before yours, which would be number 4" in str(refused.error)
    assert not refused.broken
    runs[2].stop()
    list(runs[2].looks(0.01))
    again = held(turn)
    assert again.num_before == 2
    end_all([*runs, again])


def test_one_visitor_cannot_fill_the_line() -> None:
    turn = DeviceTurn(max_per_visitor=2)
    runs = [held(turn, "ann"), held(turn, "ann"), held(turn, "bob"), held(turn), held(turn)]
    refused = held(turn, "ann")
    assert "You have 2 requests in the queue, the first at place 1" in str(refused.error)
    end_all(runs)


def test_a_run_knows_whose_event_is_answered() -> None:
    asked: ContextVar[str] = ContextVar("asked", default="nobody")
    asked.set("ann")

    def source() -> Iterator[str]:
        yield asked.get()

    run = LiveRun(source, DeviceTurn())
    assert [item for look in run.looks(0.01) for item in look] == ["ann"]
