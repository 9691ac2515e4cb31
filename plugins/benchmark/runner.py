"""Work through a benchmark, and go on where an earlier sitting ended."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Event

from dflash_app.errors import DFlashAppError, GenerationFailed, RequestError
from dflash_app.store.benchmark_records import Asked
from dflash_app.workspace import Workspace

from .asking import Asker, Ended, lane_spec
from .cells import Method, methods
from .plan import Plan
from .progress import Pace, Progress
from .question_sets import QuestionSet
from .schedule import Batch, Task, schedule
from .side_by_side import side_by_side

MAX_FAILED_IN_A_ROW = 3
"""Of one method: then its server or its pair is taken to be broken."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of the questions a process asks, and where.

    Attributes:
        index: of this process, counts from 0.
        count: processes that work side by side.
        device: that the pair is loaded on; None leaves the plan's.
    """

    index: int = 0
    count: int = 1
    device: str | None = None


WHOLE = Share()


class Sitting:
    """One process at work on a benchmark that has begun, until it is finished, stopped or broken.

    `stop` may be called from any thread, all else from one.

    Attributes:
        beginning: how far the benchmark was before.
    """

    beginning: Progress

    def __init__(
        self,
        workspace: Workspace,
        benchmark_id: int,
        plan: Plan,
        sets: Mapping[str, QuestionSet],
        share: Share = WHOLE,
        *,
        owner: str | None = None,
    ) -> None:
        """Look at what is left to ask.

        Args:
            workspace: the app.
            benchmark_id: begun in its store.
            plan: of that benchmark.
            sets: its questions, by data set.
            share: of the questions.
            owner: of the runs; None: this machine's own.
        """
        self._workspace, self._id, self._plan, self._share = workspace, benchmark_id, plan, share
        questions = {name: each.questions for name, each in sets.items()}
        self._batches = list(schedule(plan, questions, share.index, share.count))
        self._stopping = Event()
        self._replies: dict[Asked, str] = {}
        self._asker = Asker(
            workspace,
            benchmark_id,
            plan,
            sets,
            share.index,
            self._replies,
            self._stopping,
            lanes={},
            owner=owner,
        )
        self._warm: set[tuple[Method, int]] = set()
        self._pace = Pace()
        self._take_up()

    def stop(self) -> None:
        """Cancel what runs, leave the rest for another sitting."""
        self._stopping.set()

    def run(self) -> Iterator[Progress]:
        """Ask all that is left.

        Closing the iterator, Ctrl+C and `stop` leave a benchmark that can be resumed, and so does
        an error once something was asked.

        Yields:
            How far it is: at the beginning, and after every prompt. The last one is `finished`
            unless the sitting was stopped.

        Raises:
            GenerationFailed: a method failed `MAX_FAILED_IN_A_ROW` times in a row.
            StoreError: the run log cannot be written.
            UnknownPair, PairNotReady, BackendUnavailable, LoadError: a pair cannot be loaded.
        """
        progress, finished = self.beginning, False
        benchmarks = self._workspace.store.benchmarks
        try:
            yield progress
            if progress.num_done < progress.num_prompts:
                for progress in self._ask_all(progress):  # noqa: B020 - each follows the last one
                    yield progress
            finished = not self._stopping.is_set()
        except DFlashAppError:
            benchmarks.forget_empty(self._id)  # what could not even begin is not there to resume
            raise
        finally:
            self._stopping.set()
            if finished:
                benchmarks.end_share(self._id)
            else:
                benchmarks.leave(self._id)
        if finished:
            yield replace(progress, finished=True, left_s=0.0)

    def _take_up(self) -> None:
        """Find what is answered; what an earlier sitting had no time to grade is graded now."""
        tasks = [task for batch in self._batches for task in batch.tasks]
        last = {task.prompts[-1]: task for task in tasks}
        for answer in self._workspace.store.benchmarks.answers(self._id):
            if answer.complete:
                self._replies[answer.asked] = answer.record.output
                if answer.score is None and answer.asked in last:
                    self._asker.grade(last[answer.asked], answer.record.output)
        left = [(task, self._num_left(task)) for task in tasks]
        self._pace.expect(left)
        num_prompts = sum(len(task.prompts) for task in tasks)
        num_done = num_prompts - sum(number for _, number in left)
        self.beginning = Progress(self._id, num_done, 0, num_prompts)

    def _num_left(self, task: Task) -> int:
        return sum(prompt not in self._replies for prompt in task.prompts)

    def _ask_all(self, progress: Progress) -> Iterator[Progress]:
        columns = methods(self._plan)
        specs = [lane_spec(self._plan, method, self._share.device) for method in columns]
        failed_in_a_row: Counter[str] = Counter()
        with self._workspace.lanes(specs, self._plan.backend) as lanes:
            keys = [method.key for method in columns]
            self._asker.lanes = dict(zip(keys, lanes, strict=True))
            for batch in self._batches:
                for ended in self._ask_batch(batch):
                    self._pace.add(ended.task.cell, ended.num_prompts, ended.took_s)
                    progress = _after(progress, ended, self._pace.left_s())
                    yield progress
                    _check_failures(self._id, ended, failed_in_a_row)

    def _ask_batch(self, batch: Batch) -> Iterator[Ended]:
        left = [task for task in batch.tasks if self._num_left(task)]
        for method in dict.fromkeys(task.cell.method for task in left):
            if (method, batch.concurrency) not in self._warm and not self._stopping.is_set():
                self._warm.add((method, batch.concurrency))
                self._asker.warm_up(method, batch.concurrency)
        if batch.concurrency == 1:
            for task in left:
                yield from self._asker.ask(task)
        elif left:
            yield from self._ask_at_once(left, batch.concurrency)

    def _ask_at_once(self, tasks: Sequence[Task], concurrency: int) -> Iterator[Ended]:
        """Keep so many requests under way until no task is left."""
        waiting, ended = deque(tasks), SimpleQueue[Ended | None]()

        def work() -> None:
            while not self._stopping.is_set():
                try:
                    task = waiting.popleft()
                except IndexError:
                    return
                for each in self._asker.ask(task):
                    ended.put(each)

        def leave(done: Future[None]) -> None:
            if not done.cancelled() and done.exception() is not None:
                self._stopping.set()
            ended.put(None)

        cut = self._workspace.unload
        with side_by_side(concurrency, "benchmark", self._stopping.set, cut) as start:
            futures = [start(work) for _ in range(concurrency)]
            for future in futures:
                future.add_done_callback(leave)
            for _ in futures:
                while (each := ended.get()) is not None:
                    yield each
        for future in futures:
            future.result()


def _after(progress: Progress, ended: Ended, left_s: float | None) -> Progress:
    """The progress after one more prompt."""
    well = ended.error is None
    return replace(
        progress,
        num_done=progress.num_done + (ended.num_prompts if well else 0),
        num_failed=progress.num_failed + (0 if well else ended.num_prompts),
        left_s=left_s,
        cell=ended.task.cell,
        question_id=ended.task.question.id,
        decode_tok_s=ended.decode_tok_s,
        error=None if well else str(ended.error),
    )


def _check_failures(benchmark_id: int, ended: Ended, in_a_row: Counter[str]) -> None:
    """End the sitting where a method fails again and again.

    That the pair refuses a prompt (too long) says nothing of the next one.
    """
    method = ended.task.cell.method
    if ended.error is None or isinstance(ended.error, RequestError):
        in_a_row[method.key] = 0
        return
    in_a_row[method.key] += 1
    if in_a_row[method.key] == MAX_FAILED_IN_A_ROW:
        raise GenerationFailed(
            f"{method.label} failed {MAX_FAILED_IN_A_ROW} times in a row, at last with: "
            f"{ended.error} Then go on with `dflash-app benchmark --resume {benchmark_id}`."
        )
