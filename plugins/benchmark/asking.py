"""Ask one question of a benchmark: turn by turn, each a run of the log that is linked to it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import NamedTuple

from dflash_app.engine.stopping import stopped_by
from dflash_app.errors import DFlashAppError, GenerationFailed, StoreError
from dflash_app.events import DecodeEvent, Finished, TextDelta
from dflash_app.metrics import summarize
from dflash_app.race import WARM_UP_TOKENS, LaneSpec, RaceLane
from dflash_app.request import GenerationRequest, Message
from dflash_app.session import closable
from dflash_app.store.benchmark_records import Asked
from dflash_app.workspace import Workspace

from .cells import Method
from .plan import Plan
from .question_sets import QuestionSet
from .schedule import Task
from .side_by_side import side_by_side

SOURCE = "benchmark"

_WARM_UP = "Warm-up {number}: count from one to twenty."


class Ended(NamedTuple):
    """A prompt that has ended, well or not.

    Attributes:
        task: whose.
        num_prompts: that need not be asked any more: 1, or all that the question has left where one
            failed.
        took_s: seconds, recording included.
        decode_tok_s: None where it is not known.
        error: None where it ended well.
    """

    task: Task
    num_prompts: int
    took_s: float
    decode_tok_s: float | None = None
    error: DFlashAppError | None = None


class Stopped(Exception):
    """Somebody asked to stop while a run went on."""


@dataclass(slots=True)
class Asker:
    """Asks the questions of one benchmark. Any thread may call `ask`.

    Attributes:
        workspace: the app.
        benchmark_id: in its store.
        plan: of the benchmark.
        sets: its questions, which also score replies.
        share: of this process, counts from 0.
        replies: that are known already.
        stopping: set to cancel what runs.
        lanes: what each method runs on, by its key.
        owner: of the runs; None: this machine's own.
    """

    workspace: Workspace
    benchmark_id: int
    plan: Plan
    sets: Mapping[str, QuestionSet]
    share: int
    replies: dict[Asked, str]
    stopping: Event
    lanes: Mapping[str, RaceLane]
    owner: str | None = None

    def ask(self, task: Task) -> Iterator[Ended]:
        """Ask what is left of a question's turns, with the replies before as their history.

        Raises:
            StoreError: a run could not be recorded. All other errors end the question only.
        """
        question, prompts = task.question, task.prompts
        messages = [Message("system", question.system)] if question.system else []
        for turn, text in enumerate(question.turns):
            messages.append(Message("user", text))
            reply = self.replies.get(prompts[turn])
            if reply is None:
                if self.stopping.is_set():
                    return
                began_s = time.monotonic()
                try:
                    reply, tok_s = self._decode(task, prompts[turn], messages)
                except (Stopped, StoreError) as error:
                    if isinstance(error, StoreError):
                        raise
                    return
                except DFlashAppError as error:
                    num_left = sum(each not in self.replies for each in prompts[turn:])
                    yield Ended(task, num_left, time.monotonic() - began_s, error=error)
                    return
                self._keep(task, turn, reply)
                yield Ended(task, 1, time.monotonic() - began_s, tok_s)
            messages.append(Message("assistant", reply))

    def warm_up(self, method: Method, concurrency: int) -> None:
        """Decode first tokens, unrecorded, so that no question pays for first calls.

        Raises:
            GenerationFailed, RequestError: from the pair.
        """
        loaded = self.lanes[method.key].loaded
        limit = min(WARM_UP_TOKENS, self.plan.max_new_tokens)

        def decode(number: int) -> None:
            if self.stopping.is_set():
                return
            messages = [Message("user", _WARM_UP.format(number=number))]
            request = replace(request_of(self.plan, method, messages), max_new_tokens=limit)
            stream = closable(loaded.stream(request))
            with stopped_by(self.stopping), closing(stream) as events:
                for _ in events:
                    pass

        numbers = range(self.plan.warm_up * concurrency)
        if concurrency == 1:
            for number in numbers:
                decode(number)
            return
        cut = self.workspace.unload
        with side_by_side(concurrency, "warm-up", self.stopping.set, cut) as start:
            for future in [start(partial(decode, number)) for number in numbers]:
                future.result()

    def grade(self, task: Task, reply: str) -> None:
        """Score the reply to a question's last turn, where its set can."""
        score = self.sets[task.cell.dataset].score(task.question, reply)
        if score is not None:
            benchmarks = self.workspace.store.benchmarks
            benchmarks.save_score(self.benchmark_id, task.prompts[-1], score)

    def _keep(self, task: Task, turn: int, reply: str) -> None:
        self.replies[task.prompts[turn]] = reply
        if turn == len(task.prompts) - 1:
            self.grade(task, reply)

    def _decode(
        self, task: Task, asked: Asked, messages: Sequence[Message]
    ) -> tuple[str, float | None]:
        """One run: the reply, and its tok/s."""
        store, linked = self.workspace.store, False
        began_at = time.time()
        kept: list[DecodeEvent] = []

        def began(run_id: int) -> None:
            nonlocal linked
            # Where the log was locked at first, this comes after the run.
            at = began_at if kept else time.time()
            store.benchmarks.add_run(self.benchmark_id, asked, run_id, at, self.share)
            linked = True

        method = task.cell.method
        request = request_of(self.plan, method, messages, task.repetition, task.cell.dataset)
        events = self.workspace.run(
            self.lanes[method.key].loaded,
            request,
            source=SOURCE,
            group_id=f"{SOURCE}-{self.benchmark_id}",
            owner=self.owner,
            # What a server keeps of a prompt is its own affair; here every run reads all of it.
            reuse=self.workspace.registry.get(method.pair).remote,
            began=began,
        )
        text: list[str] = []
        # A server that says nothing yields no event to look between: the scope reaches it.
        with stopped_by(self.stopping), closing(closable(events)) as stream:
            for event in stream:
                if isinstance(event, TextDelta):
                    text.append(event.text)
                else:
                    kept.append(event)
                if self.stopping.is_set() and not isinstance(event, Finished):
                    raise Stopped
        if not linked:
            raise StoreError("A run could not be recorded when it began: resume the benchmark.")
        end = kept[-1]
        if isinstance(end, Finished) and end.reason == "cancelled":
            if self.stopping.is_set():
                raise Stopped
            raise GenerationFailed("The run was cancelled by another program: ask again.")
        return "".join(text), summarize(kept).decode_tok_s


def lane_spec(plan: Plan, method: Method, device: str | None) -> LaneSpec:
    """What a method needs in memory.

    Args:
        plan: of the benchmark.
        method: one of its own.
        device: instead of the plan's; None leaves that.
    """
    options = plan.options if device is None else replace(plan.options, device=device)
    return LaneSpec(method.pair, options, request_of(plan, method, [Message("user", _WARM_UP)]))


def request_of(
    plan: Plan,
    method: Method,
    messages: Sequence[Message],
    repetition: int = 0,
    task: str | None = None,
) -> GenerationRequest:
    """One turn as the plan asks it."""
    return GenerationRequest(
        messages=tuple(messages),
        max_new_tokens=plan.max_new_tokens,
        # A seed would make adaptive drafts fixed.
        sampling=plan.sampling(repetition, seeded=method.policy != "adaptive"),
        mode=method.mode,
        block_size=method.block_size,
        thinking=plan.thinking,
        policy=method.policy,
        task=task,
    )
