"""One thread per device: runs jobs in order, hands their items over, drops them when told to.

Why `Items` are unbounded: a job puts out at most `max_new_tokens` small events, so the request
itself is the bound; a bounded queue would let a slow page stall the device and its clock.
"""

import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Lock, Thread, current_thread
from typing import Generic, TypeVar

from dflash_app.engine.items import Items
from dflash_app.engine.out_of_memory import is_out_of_memory
from dflash_app.engine.stopping import current_stop
from dflash_app.errors import DFlashAppError, GenerationFailed

T = TypeVar("T")


@dataclass(slots=True)
class Job:
    """What a running producer may know of itself.

    Attributes:
        submitted_s: when the job entered the queue, on `time.perf_counter`.
        queue_s: seconds that it waited there.
        cancelled: nobody reads any more.
        stop: set by whoever wants the run to end while it is read; None where nobody can.
        abort: the reader's error where the worker, not the reader, ended the job.
    """

    submitted_s: float = field(default_factory=time.perf_counter)
    queue_s: float = 0.0
    cancelled: bool = False
    stop: Event | None = field(default_factory=current_stop)
    abort: DFlashAppError | None = None

    @property
    def should_end(self) -> bool:
        """Cancelled or stopped; look at it between items, and where none comes for long."""
        return self.cancelled or (self.stop is not None and self.stop.is_set())


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing in a queue of items."""

    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    """One entry of the thread's queue: run it, or tell whoever waits that it will not run."""

    run: Callable[[], None]
    refuse: Callable[[DFlashAppError], None]
    job: Job | None = None


class Worker:
    """A daemon thread that owns one device; everything that touches the device runs here."""

    def __init__(self, name: str) -> None:
        """Start the thread.

        Args:
            name: of the thread, as debuggers show it: "decode-cpu".
        """
        self.name = name
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = Lock()
        self._closed = False
        self._current: Job | None = None
        self._last: Callable[[], None] | None = None
        self._ended: Future[None] = Future()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` on the thread, after what is queued, and wait for it.

        Returns:
            What it returns.

        Raises:
            GenerationFailed: the worker is closed, now or while the call waits.
            BaseException: whatever `function` raises, as it is.
        """
        if current_thread() is self._thread:
            return function()
        future: Future[T] = Future()
        self._submit(_Task(lambda: _settle(future, function), future.set_exception))
        return future.result()

    def stream(self, make_iterator: Callable[[Job], Iterator[T]]) -> "JobStream[T]":
        """Run an iterator on the thread; the job is queued at the reader's first `next`.

        Args:
            make_iterator: called on the thread; a generator is closed there too.
        """
        return JobStream(self._submit, make_iterator)

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Cancel what runs, refuse what waits, run `last` on the thread, and end it.

        Waits for the item in flight. A second call waits for the first one's work.

        Args:
            last: frees what the thread owns; what it raises is raised here.
        """
        with self._lock:
            if not self._closed:
                self._closed, self._last = True, last
                if self._current is not None:
                    self._current.abort = _unloaded()
                    self._current.cancelled = True
                self._tasks.put(None)
        if current_thread() is not self._thread:
            self._ended.result()
            self._thread.join()

    def _submit(self, task: _Task) -> None:
        with self._lock:
            if not self._closed:
                self._tasks.put(task)
                return
        task.refuse(GenerationFailed("The pair is no longer loaded: load it again."))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            with self._lock:
                refused, self._current = self._closed, task.job
            if refused:
                task.refuse(_unloaded())
            else:
                task.run()
            self._current = None
            # A task holds its job's models; none must outlive its turn.
            del task
        _settle(self._ended, self._last or (lambda: None))


class JobStream(Generic[T]):
    """Items of one job, read on any thread; `close` cancels it and never waits.

    Gradio resumes one generator on several threads and garbage collection may run on any, the
    worker's own included: so closing sets a flag and wakes a blocked reader, nothing more.
    """

    def __init__(
        self,
        submit: Callable[[_Task], None],
        make_iterator: Callable[[Job], Iterator[T]],
    ) -> None:
        self._submit = submit
        self._make_iterator: Callable[[Job], Iterator[T]] | None = make_iterator
        self._items: Items[T | _End] = Items()
        self._job: Job | None = None
        self._done = False

    def __iter__(self) -> "JobStream[T]":
        return self

    def __next__(self) -> T:
        if self._make_iterator is not None and not self._done:
            make_iterator, self._make_iterator = self._make_iterator, None
            self._start(make_iterator)
        if self._done:
            raise StopIteration
        item = self._items.get()
        if not isinstance(item, _End):
            return item
        closed, self._done = self._done, True
        if item.error is None or closed:
            raise StopIteration
        raise item.error

    def close(self) -> None:
        """Cancel: the producer is closed after the item in flight, and the worker is free."""
        if not self._done:
            self._done = True
            if self._job is not None:
                self._job.cancelled = True
            self._items.put_last(_End())

    def __del__(self) -> None:
        self.close()

    def _start(self, make_iterator: Callable[[Job], Iterator[T]]) -> None:
        # The task must not hold this object, or it would never be collected and so never closed.
        job, items = Job(), self._items
        self._job = job
        self._submit(
            _Task(
                run=lambda: _produce(job, items, make_iterator),
                refuse=lambda error: items.put_last(_End(error)),
                job=job,
            )
        )


def _produce(job: Job, items: Items[T | _End], make_iterator: Callable[[Job], Iterator[T]]) -> None:
    """Run a job to its end, on the worker thread; whatever happens, its reader gets an end."""
    job.queue_s = time.perf_counter() - job.submitted_s
    error: BaseException | None = None
    if not job.cancelled:
        try:
            _pump(job, items, make_iterator(job))
        except BaseException as raised:  # noqa: BLE001 the door: no reader hangs, no thread ends
            error = _translated(raised)
            # Frames of a failed run hold its caches: free them while the error is shown.
            traceback.clear_frames(raised.__traceback__)
    items.put_last(_End(job.abort or error))


def _pump(job: Job, items: Items[T | _End], iterator: Iterator[T]) -> None:
    try:
        for item in iterator:
            if job.cancelled:
                return
            items.put(item)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _settle(future: Future[T], function: Callable[[], T]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001 raised again where the future is read
        future.set_exception(error)


def _unloaded() -> DFlashAppError:
    return GenerationFailed("The pair was unloaded while it was working: load it and start again.")


def _translated(error: BaseException) -> DFlashAppError:
    """The error as one sentence for the user; the original stays as its cause."""
    if isinstance(error, DFlashAppError):
        return error
    if is_out_of_memory(error):
        failed = GenerationFailed(
            "The device ran out of memory: shorten the conversation or the output limit, "
            "or load a smaller pair."
        )
    else:
        summary = next(iter(str(error).splitlines()), "")[:200]
        failed = GenerationFailed(
            f"Decoding broke ({type(error).__name__}: {summary}): "
            "try again, and report it if it happens again."
        )
    failed.__cause__ = error
    return failed
