import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from dflash_app.engine.worker import Job, Worker
from dflash_app.errors import GenerationFailed, RequestError

WAIT_S = 10.0


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test-worker")
    yield worker
    worker.close()


class Producer:
    """An endless job that a test drives item by item, and that tells when it was closed."""

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.produced = 0
        self.closed = threading.Event()
        self.closed_on: str | None = None

    def __call__(self, job: Job) -> Iterator[int]:
        try:
            while True:
                # Longer than any test waits: a job must end because it was told to.
                assert self.allowed.acquire(timeout=3 * WAIT_S)
                self.produced += 1
                yield self.produced
        finally:
            self.closed_on = threading.current_thread().name
            self.closed.set()


@contextmanager
def occupied(worker: Worker, pool: ThreadPoolExecutor) -> Iterator[None]:
    """The worker is busy with a call for as long as the context lasts."""
    started, gate = threading.Event(), threading.Event()

    def hold() -> bool:
        started.set()
        return gate.wait(WAIT_S)

    held = pool.submit(worker.call, hold)
    assert started.wait(WAIT_S)
    try:
        yield
    finally:
        gate.set()
    assert held.result(WAIT_S)


def wait_until(condition: Callable[[], bool]) -> None:
    pause, deadline_s = threading.Event(), time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        pause.wait(0.001)


def test_call_runs_on_the_workers_thread_and_returns_the_result(worker):
    assert worker.call(lambda: threading.current_thread().name) == "test-worker"


def test_call_raises_what_the_function_raised_and_the_worker_lives_on(worker):
    error = KeyError("mine")

    def fail() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        worker.call(fail)
    assert caught.value is error
    assert worker.call(lambda: 3) == 3


def test_call_from_the_worker_itself_does_not_wait_for_itself(worker):
    assert worker.call(lambda: worker.call(lambda: 5)) == 5


def test_stream_crosses_items_in_order_and_ends(worker):
    stream = worker.stream(lambda job: iter(range(1000)))
    assert list(stream) == list(range(1000))
    assert list(stream) == []


def test_the_iterator_is_made_and_run_on_the_worker(worker):
    made_on = worker.stream(lambda job: iter((threading.current_thread().name,)))
    run_on = worker.stream(lambda job: (threading.current_thread().name for _ in range(1)))
    assert [*made_on, *run_on] == ["test-worker"] * 2


def test_closing_closes_the_producer_after_the_item_in_flight_and_frees_the_worker(worker):
    producer = Producer()
    stream = worker.stream(producer)
    producer.allowed.release()
    assert next(stream) == 1
    stream.close()
    assert not producer.closed.is_set()  # it waits inside an item, which is finished first
    producer.allowed.release()
    assert worker.call(lambda: "free") == "free"
    assert producer.closed.is_set()
    assert producer.produced == 2
    assert producer.closed_on == "test-worker"
    assert list(stream) == []


def test_a_producer_that_something_else_still_holds_is_closed_all_the_same(worker):
    producer = Producer()
    held: list[Iterator[int]] = []

    def produce(job: Job) -> Iterator[int]:
        held.append(producer(job))
        return held[0]

    stream = worker.stream(produce)
    producer.allowed.release(2)
    assert next(stream) == 1
    stream.close()
    producer.allowed.release()
    assert producer.closed.wait(WAIT_S)
    assert producer.closed_on == "test-worker"


def test_a_stream_read_on_several_threads_and_closed_on_another_is_cancelled(worker):
    producer = Producer()
    stream = worker.stream(producer)
    with ThreadPoolExecutor(max_workers=1) as first, ThreadPoolExecutor(max_workers=1) as second:
        producer.allowed.release(2)
        assert first.submit(next, stream).result(WAIT_S) == 1
        assert second.submit(next, stream).result(WAIT_S) == 2
        second.submit(stream.close).result(WAIT_S)
    producer.allowed.release()
    assert producer.closed.wait(WAIT_S)


def test_closing_wakes_a_reader_that_waits_on_another_thread(worker):
    producer = Producer()
    stream = worker.stream(producer)
    with ThreadPoolExecutor(max_workers=1) as pool:
        producer.allowed.release()
        assert next(stream) == 1
        waiting = pool.submit(lambda: list(stream))
        stream.close()
        assert waiting.result(WAIT_S) == []
    producer.allowed.release()


def test_a_generator_around_a_stream_cancels_when_it_is_closed(worker):
    producer = Producer()
    page = (item for item in worker.stream(producer))
    producer.allowed.release()
    assert next(page) == 1
    page.close()
    producer.allowed.release()
    assert producer.closed.wait(WAIT_S)


def test_a_stream_that_is_never_read_starts_nothing(worker):
    producer = Producer()
    stream = worker.stream(producer)
    assert worker.call(lambda: 1) == 1
    stream.close()
    assert list(stream) == []
    assert producer.produced == 0
    assert not producer.closed.is_set()


def test_a_stream_that_is_garbage_collected_cancels_its_job(worker):
    producer = Producer()
    stream = worker.stream(producer)
    producer.allowed.release()
    assert next(stream) == 1
    cycle: list[object] = [stream]
    cycle.append(cycle)
    del stream, cycle
    gc.collect()
    producer.allowed.release()
    assert producer.closed.wait(WAIT_S)
    assert worker.call(lambda: "free") == "free"


def test_a_job_is_told_that_it_is_cancelled_while_no_item_comes(worker):
    started = threading.Event()

    def prefill(job: Job) -> Iterator[int]:
        started.set()
        pause = threading.Event()
        while not job.cancelled:
            pause.wait(0.001)
        return iter(())

    stream = worker.stream(prefill)
    with ThreadPoolExecutor(max_workers=1) as pool:
        reading = pool.submit(lambda: list(stream))
        assert started.wait(WAIT_S)
        stream.close()
        assert reading.result(WAIT_S) == []
    assert worker.call(lambda: "free") == "free"


def test_jobs_run_one_after_the_other_in_the_order_of_their_first_read(worker):
    running: list[int] = []
    order: list[int] = []

    def produce(number: int) -> Iterator[int]:
        assert not running, "two jobs at once"
        running.append(number)
        order.append(number)
        yield from range(20)
        running.remove(number)

    with ThreadPoolExecutor(max_workers=8) as pool:
        reading = []
        with occupied(worker, pool):
            for number in range(6):
                stream = worker.stream(lambda job, n=number: produce(n))
                reading.append(pool.submit(list, stream))
                wait_until(lambda n=number: worker._tasks.qsize() == n + 1)
        assert [each.result(WAIT_S) for each in reading] == [list(range(20))] * 6
    assert order == list(range(6))


def test_the_wait_for_the_device_is_measured(worker):
    with ThreadPoolExecutor(max_workers=2) as pool:
        with occupied(worker, pool):
            waits = pool.submit(list, worker.stream(lambda job: iter((job.queue_s,))))
            wait_until(lambda: worker._tasks.qsize() == 1)
            threading.Event().wait(0.05)
        (waited_s,) = waits.result(WAIT_S)
    (at_once_s,) = worker.stream(lambda job: iter((job.queue_s,)))
    assert 0.05 <= waited_s < WAIT_S
    assert at_once_s < waited_s


def test_a_job_that_is_closed_while_it_waits_is_never_started(worker):
    producer = Producer()
    stream = worker.stream(producer)
    with ThreadPoolExecutor(max_workers=2) as pool:
        with occupied(worker, pool):
            reading = pool.submit(list, stream)
            wait_until(lambda: worker._tasks.qsize() == 1)
            stream.close()
        assert reading.result(WAIT_S) == []
    assert worker.call(lambda: 1) == 1
    assert producer.produced == 0
    assert not producer.closed.is_set()


def failing(error: BaseException) -> Iterator[int]:
    yield 1
    raise error


def test_an_error_of_the_app_crosses_as_it_is_after_the_items_before_it(worker):
    error = RequestError("No such block size.")
    stream = worker.stream(lambda job: failing(error))
    assert next(stream) == 1
    with pytest.raises(RequestError) as caught:
        next(stream)
    assert caught.value is error
    assert list(stream) == []


@pytest.mark.parametrize(
    "error", [ValueError("shapes\nsecond line"), SystemExit(3), KeyboardInterrupt()]
)
def test_any_other_error_becomes_one_sentence_with_the_original_as_cause(worker, error):
    stream = worker.stream(lambda job: failing(error))
    with pytest.raises(GenerationFailed) as caught:
        list(stream)
    assert caught.value.__cause__ is error
    assert type(error).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)
    assert worker.call(lambda: "alive") == "alive"


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_lack_of_memory_is_named_with_a_cure(worker, error):
    with pytest.raises(GenerationFailed, match=r"out of memory: shorten") as caught:
        list(worker.stream(lambda job: failing(error)))
    assert caught.value.__cause__ is error


def test_a_failed_job_lets_go_of_what_its_frames_held(worker):
    class Cache:
        pass

    held: list[weakref.ref[Cache]] = []

    def produce(job: Job) -> Iterator[int]:
        cache = Cache()
        held.append(weakref.ref(cache))
        yield 1
        raise MemoryError

    stream = worker.stream(produce)
    with pytest.raises(GenerationFailed) as caught:
        list(stream)
    assert caught.value.__cause__ is not None  # the error, still held here, does not hold the cache
    gc.collect()
    assert held[0]() is None


def test_a_finished_job_is_forgotten_while_the_worker_waits_for_the_next(worker):
    class Weights:
        pass

    weights = Weights()
    gone = weakref.ref(weights)
    assert worker.call(lambda weights=weights: isinstance(weights, Weights))
    del weights
    wait_until(lambda: gone() is None)


def test_after_close_calls_and_streams_say_so_at_once():
    worker = Worker("closed")
    started = worker.stream(lambda job: iter((1,)))
    worker.close()
    worker.close()
    assert not worker._thread.is_alive()
    for _ in range(2):
        with pytest.raises(GenerationFailed, match="load it again"):
            worker.call(lambda: 1)
    with pytest.raises(GenerationFailed, match="load it again"):
        next(started)
    assert list(started) == []


def test_close_ends_what_runs_refuses_what_waits_and_runs_the_last_job_on_the_thread():
    worker = Worker("closing")
    producer = Producer()
    running, waiting = worker.stream(producer), worker.stream(lambda job: iter((1,)))
    last: list[str] = []
    with ThreadPoolExecutor(max_workers=3) as pool:
        producer.allowed.release()
        assert next(running) == 1
        queued = pool.submit(list, waiting)
        called = pool.submit(worker.call, lambda: "never")
        wait_until(lambda: worker._tasks.qsize() == 2)
        closing = pool.submit(worker.close, lambda: last.append(threading.current_thread().name))
        wait_until(lambda: worker._closed)
        producer.allowed.release()
        closing.result(WAIT_S)
        with pytest.raises(GenerationFailed, match="unloaded"):
            list(running)
        for refused in (queued, called):
            with pytest.raises(GenerationFailed, match="unloaded"):
                refused.result(WAIT_S)
    assert producer.closed.is_set()
    assert last == ["closing"]
    assert not worker._thread.is_alive()


def test_what_the_last_job_raises_is_raised_by_close():
    worker = Worker("closing")

    def fail() -> None:
        raise OSError("cannot free")

    with pytest.raises(OSError, match="cannot free"):
        worker.close(fail)
    assert worker._ended.done()


def test_a_worker_that_is_never_closed_lets_the_interpreter_exit():
    code = (
        "from dflash_app.engine.worker import Worker\n"
        "import itertools\n"
        "stream = Worker('forgotten').stream(lambda job: itertools.count())\n"
        "print(next(stream))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "0\n"
    assert done.stderr == ""
