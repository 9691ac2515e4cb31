"""The queue of downloads: one is active, the others wait; any of them can be stopped and resumed.

Nothing here calls back: a page or a command line asks for `snapshot` as often as it likes.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from dflash_app.errors import HubError, RegistryError, StoreError
from dflash_app.hub.job_store import Job, JobState, JobStore
from dflash_app.hub.process import Transfer, Wanted

RATE_WINDOW_S = 5.0
STOP_TIMEOUT_S = 5.0

Pin = Callable[[str, str], None]
"""Called with a repository and the commit that its main branch was resolved to."""


class Downloads:
    """All download jobs of this app. Any thread may call it."""

    def __init__(self, database: Path, *, pin: Pin, cache_dir: Path | None = None) -> None:
        """Know the jobs that earlier runs left; starts nothing.

        Args:
            database: where jobs are kept.
            pin: records what a branch was resolved to.
            cache_dir: the hub's cache; None takes the library's own.
        """
        self._store = JobStore(database)
        self._pin = pin
        self._cache_dir = cache_dir
        self._changed = Condition()
        self._jobs = {job.id: job for job in self._store.load()}
        self._queue: deque[int] = deque()
        self._stop_as: dict[int, JobState] = {}
        self._transfer: Transfer | None = None
        self._thread: Thread | None = None
        self._closed = False

    @property
    def problem(self) -> str | None:
        """Why jobs will not survive a restart; None while they will."""
        return str(self._store.problem) if self._store.problem else None

    def snapshot(self) -> tuple[Job, ...]:
        """Every job as it is now, the newest first; costs no input or output."""
        with self._changed:
            return tuple(sorted(self._jobs.values(), key=lambda job: -job.id))

    def get(self, job_id: int) -> Job:
        """One job as it is now.

        Raises:
            HubError: there is none with that id.
        """
        with self._changed:
            return self._get(job_id)

    def start(self, pair: str, models: Sequence[Wanted]) -> Job:
        """Queue a download, or join the job that brings the same models.

        Args:
            pair: its name.
            models: what to fetch.

        Raises:
            HubError: another process is downloading the pair.
        """
        with self._changed:
            self._check_elsewhere(pair)
            for job in reversed(self._jobs.values()):
                if job.pair == pair and job.state != "done" and _brings(job, models):
                    return self._enqueue(job)
            return self._enqueue(self._store.add(pair, models))

    def add_done(self, pair: str, models: Sequence[Wanted]) -> Job:
        """A job for models that are here already."""
        with self._changed:
            return self._put(self._store.add(pair, models), state="done")

    def resume(self, job_id: int) -> Job:
        """Go on with a job that was paused, cancelled or interrupted, or that failed.

        Raises:
            HubError: another process is downloading the pair.
        """
        with self._changed:
            job = self._get(job_id)
            self._check_elsewhere(job.pair)
            return self._enqueue(job)

    def elsewhere(self) -> list[Job]:
        """The downloads of other processes on this machine."""
        with self._changed:
            return self._store.elsewhere()

    def pause(self, job_id: int) -> Job:
        """Stop a job and keep what is there; it waits for `resume`."""
        return self._halt(job_id, "paused")

    def cancel(self, job_id: int) -> Job:
        """Stop a job for good and keep what is there: a later download goes on from it."""
        return self._halt(job_id, "cancelled")

    def forget(self, job_id: int) -> None:
        """Take a job out of the list.

        Raises:
            HubError: it is queued or active, or there is none with that id.
        """
        with self._changed:
            if self._get(job_id).live:
                raise HubError("This download goes on: cancel it first.")
            del self._jobs[job_id]
            self._store.delete(job_id)
            self._changed.notify_all()

    def watch(self, job_id: int) -> Iterator[Job]:
        """Yield a job whenever it changed, until it is neither active nor queued."""
        seen = None
        while True:
            with self._changed:
                while (job := self._get(job_id)) == seen:
                    self._changed.wait()
            yield job
            if not job.live:
                return
            seen = job

    def close(self) -> None:
        """End the transfer; live jobs are interrupted and can be resumed after the next start."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                if job.live:
                    self._stop_as[job.id] = "interrupted"
            self._queue.clear()
            if self._transfer is not None:
                self._transfer.stop()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
        with self._changed:
            for job in [job for job in self._jobs.values() if job.live]:
                self._put(job, state="interrupted")
            self._store.close()

    def _get(self, job_id: int) -> Job:
        if job_id not in self._jobs:
            raise HubError(f"There is no download {job_id}: it was taken out of the list.")
        return self._jobs[job_id]

    def _check_elsewhere(self, pair: str) -> None:
        if any(job.pair == pair for job in self._store.elsewhere()):
            raise HubError(
                f"Pair {pair!r} is being downloaded by another dflash-app on this machine: "
                "wait for it or stop it there."
            )

    def _enqueue(self, job: Job) -> Job:
        # One that is just being stopped ends first.
        self._changed.wait_for(lambda: job.id not in self._stop_as, STOP_TIMEOUT_S)
        job = self._jobs.get(job.id, job)
        if job.live or job.state == "done":
            return job
        job = self._put(job, state="queued", message=None, licence_url=None)
        self._queue.append(job.id)
        if self._thread is None:
            self._thread = Thread(target=self._work, name="downloads", daemon=True)
            self._thread.start()
        return job

    def _halt(self, job_id: int, state: JobState) -> Job:
        with self._changed:
            job = self._get(job_id)
            if job.state == "active":
                self._stop_as[job_id] = state
                if self._transfer is not None:
                    self._transfer.stop()
                self._changed.wait_for(lambda: not self._get(job_id).live, STOP_TIMEOUT_S)
                return self._get(job_id)
            if job.state == "queued":
                self._queue.remove(job_id)
            if job.state != "done":
                job = self._put(job, state=state, message=None)
            return job

    def _work(self) -> None:
        """The thread: one job after the other."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
                job = self._put(self._jobs[self._queue.popleft()], state="active")
            state, message = self._run(job)
            with self._changed:
                self._transfer = None
                wanted = self._stop_as.pop(job.id, None)
                if wanted is not None and state != "done":
                    state, message = wanted, None
                self._put(
                    self._jobs[job.id],
                    state=state,
                    message=message,
                    rate_bytes_s=None,
                    left_s=None,
                )

    def _run(self, job: Job) -> tuple[JobState, str | None]:
        """Do one job to its end; how it ended and why."""
        try:
            with self._changed:
                if job.id in self._stop_as:
                    return "failed", None
                self._transfer = transfer = Transfer(job.models, self._cache_dir)
            return self._follow(job.id, transfer)
        except OSError as error:
            return "failed", f"The download process could not be started ({error.strerror})."

    def _follow(self, job_id: int, transfer: Transfer) -> tuple[JobState, str | None]:
        """Take what the process tells until it ends."""
        ended: tuple[JobState, str | None] | None = None
        rates: deque[tuple[float, int]] = deque()
        for event in transfer.events():
            if event["event"] == "done":
                ended = "done", None
            elif event["event"] == "failed":
                ended = "failed", str(event["text"])
            try:
                with self._changed:
                    self._take(self._jobs[job_id], event, rates)
            except RegistryError as error:  # the commit could not be recorded
                transfer.stop()
                ended = "failed", str(error)
        status = transfer.close()
        return ended or ("failed", f"The download process ended ({status}): resume it.")

    def _take(self, job: Job, event: dict[str, Any], rates: deque[tuple[float, int]]) -> None:
        """Bring a job up to date with what its process told."""
        kind = event["event"]
        if kind == "resolved":
            if event["revision"] is None:
                self._pin(event["repo"], event["commit"])
            models = tuple(
                replace(each, revision=event["commit"])
                if (each.repo, each.revision) == (event["repo"], None)
                else each
                for each in job.models
            )
            self._put(job, models=models)
        elif kind == "plan":
            self._put(job, done_bytes=event["done_bytes"], total_bytes=event["total_bytes"])
        elif kind == "progress":
            done = int(event["done_bytes"])
            rate = _rate(rates, done)
            left = (job.total_bytes - done) / rate if rate and job.total_bytes else None
            note = job.message if done == job.done_bytes else None  # it stays while nothing comes
            self._put(
                job, keep=False, done_bytes=done, rate_bytes_s=rate, left_s=left, message=note
            )
        elif kind == "note":
            self._put(job, keep=False, message=event["text"])
        elif kind == "saving":
            self._put(job, done_bytes=job.total_bytes or 0, left_s=0.0)
        elif kind == "failed":
            self._put(job, licence_url=event["url"])

    def _put(self, job: Job, *, keep: bool = True, **changes: Any) -> Job:
        """Replace a job; on disk too, unless it is progress only."""
        now = datetime.now(UTC) if "state" in changes else job.changed
        job = replace(job, changed=now, **changes)
        self._jobs[job.id] = job
        if keep:
            try:
                self._store.save(job)
            except StoreError as problem:  # the download goes on; `problem` tells
                self._store.problem = problem
        self._changed.notify_all()
        return job


def _brings(job: Job, models: Sequence[Wanted]) -> bool:
    """Whether a job fetches all these models; what has no pin is what the job resolved it to."""
    return all(
        any(
            (has.repo, has.role) == (each.repo, each.role) and each.revision in (None, has.revision)
            for has in job.models
        )
        for each in models
    )


def _rate(rates: deque[tuple[float, int]], done: int) -> float | None:
    """Bytes a second over the last seconds."""
    now = time.monotonic()
    rates.append((now, done))
    while now - rates[0][0] > RATE_WINDOW_S:
        rates.popleft()
    first_time, first_done = rates[0]
    return (done - first_done) / (now - first_time) if now > first_time else None
