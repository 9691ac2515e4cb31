"""A pair on this machine: template, worker, decode loop and text, one stream of events."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, Protocol

from dflash_app.engine.detokenize import Detokenizer, TextDecoder
from dflash_app.engine.fair_clock import Stopwatch
from dflash_app.engine.policy import (
    PLAIN,
    AdaptiveDrafts,
    DraftPolicy,
    FixedDrafts,
    SeededDrafts,
)
from dflash_app.engine.prompt import (
    ChatTokenizer,
    encode_prompt,
    stable_length,
    stop_texts,
    template_warning,
)
from dflash_app.engine.prompt_pieces import in_pieces
from dflash_app.engine.protocol import LoadedModels, MemoryKeeper, StepRecorder
from dflash_app.engine.racing import Entry, race_lanes
from dflash_app.engine.speculative import decode
from dflash_app.engine.step_costs import StepCosts
from dflash_app.engine.worker import Job, Worker
from dflash_app.errors import GenerationFailed, PromptTooLong, RequestError
from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone, TextDelta
from dflash_app.request import GenerationRequest


class PairTokenizer(ChatTokenizer, TextDecoder, Protocol):
    """A tokenizer of transformers or of mlx-lm."""

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """The vocabulary's own spelling of each token."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A request that was checked and can be decoded.

    Attributes:
        request: what was asked.
        prompt_ids: what the lane reads.
        max_new_tokens: what of the request's limit the context has room for.
        policy: drafts in each step.
        reuse: go on from the turn before, and let the next turn go on from this one.
        stable_length: see `decode`.
    """

    request: GenerationRequest
    prompt_ids: list[int]
    max_new_tokens: int
    policy: DraftPolicy
    reuse: bool
    stable_length: int


class LocalPair:
    """Implements `LoadedPair` on a backend's models."""

    def __init__(
        self,
        *,
        name: str,
        backend: str,
        tokenizer: PairTokenizer,
        models: LoadedModels,
        worker: Worker,
        guest: bool = False,
        warnings: Sequence[str] = (),
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take the models over.

        Args:
            name: of the pair.
            backend: of the backend that loaded it: "torch".
            tokenizer: the target's.
            models: used on the worker's thread only.
            worker: this pair's own, closed with it; or of the pair that it is a guest of.
            guest: the worker is another pair's, and ends with that one.
            warnings: what was found before the models were loaded, a sentence each.
            now: the clock that runs are timed by, in seconds.
        """
        self._name, self._backend = name, backend
        self._tokenizer, self._models = tokenizer, models
        self._worker, self._guest = worker, guest
        self._warnings = tuple(warnings)
        self._now = now
        # Encoding sets the tokenizer up before it reads, so two threads must not do it at once.
        self._encoding = Lock()
        # By drafts in a block: what adaptive runs learnt, for those that follow.
        self._step_costs: dict[int, StepCosts] = {}

    @property
    def name(self) -> str:
        """The pair's name."""
        return self._name

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self._backend

    @property
    def worker(self) -> Worker:
        """The thread that owns the device."""
        return self._worker

    @property
    def device(self) -> str:
        """Where the models are."""
        return self._models.device

    @property
    def dtype(self) -> str:
        """What the models compute in."""
        return self._models.dtype

    @property
    def rollback_kind(self) -> str:
        """How the target's caches forget rejected tokens."""
        return self._models.rollback_kind

    @property
    def quantization(self) -> str | None:
        """What the target's weights are stored as; None where it is the dtype."""
        return self._models.quantization

    @property
    def drafter_quantization(self) -> str | None:
        """What the drafter's weights are stored as; None where it is the dtype."""
        return self._models.drafter_quantization

    @property
    def path(self) -> str:
        """How the target decodes."""
        return self._models.path

    @property
    def drafter_path(self) -> str | None:
        """How the drafter drafts; None without one."""
        return self._models.drafter_path

    @property
    def startup_s(self) -> float:
        """Seconds spent so far on recording steps that later ones repeat."""
        return self._models.startup_s if isinstance(self._models, StepRecorder) else 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of this load, a sentence each."""
        about_prompts = template_warning(self._tokenizer)
        found = (*self._warnings, *self._models.warnings)
        return found if about_prompts is None else (*found, about_prompts)

    @property
    def block_size(self) -> int | None:
        """The drafter's own, anchor included; None without a drafter."""
        return self._models.block_size

    @property
    def context_length(self) -> int:
        """Most positions that the target can hold."""
        return self._models.context_length

    def stream(self, request: GenerationRequest) -> Iterator[DecodeEvent]:
        """Decode one request; closing the iterator cancels within one step.

        The request is checked here and now; the job enters the queue at the first `next`. What the
        prompt shares with the turn that this pair decoded last is not read again where the target's
        cache allows it.

        Raises:
            RequestError: refused before anything is computed (PromptTooLong included).
            GenerationFailed: the decode loop broke (while iterating).
        """
        run = self._check(request, reuse=True)
        self._check_room([run])

        def produce(job: Job) -> Iterator[DecodeEvent]:
            clock = Stopwatch(self._now)
            clock.resume()
            return self._events(run, clock, job)

        return self._worker.stream(produce)

    def race(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, DecodeEvent]]:
        """Decode several requests as lanes of one job under a fair clock: see `race_lanes`."""
        return race_lanes([(self, request) for request in requests])

    def enter(self, requests: Sequence[GenerationRequest]) -> list[Entry]:
        """Check the requests of a race: see `racing.Entrant`."""
        runs = [self._check(request, reuse=False) for request in requests]
        self._check_room(runs)
        clocks = [Stopwatch(self._now) for _ in runs]
        return [
            (clock, partial(self._events, run, clock))
            for run, clock in zip(runs, clocks, strict=True)
        ]

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Each token as printable text; special tokens by name, parts of a character as U+FFFD."""
        spellings = self._tokenizer.convert_ids_to_tokens(list(token_ids))
        texts = []
        for token_id, spelling in zip(token_ids, spellings, strict=True):
            text = str(self._tokenizer.decode([token_id], skip_special_tokens=False))
            # SentencePiece decoders take the space before the first word away.
            lost = str(spelling).startswith("\u2581") and not text.startswith(" ")
            texts.append(" " + text if lost else text)
        return texts

    def next_logits(
        self,
        request: GenerationRequest,
        output_ids: Sequence[int],
        candidates: Sequence[int],
    ) -> tuple[float, ...]:
        """The target's logits of `candidates` after the request's prompt and `output_ids`.

        They are the ones that greedy decoding compares: under the request's repetition penalty.

        Raises:
            PromptTooLong: both together do not fit.
            GenerationFailed: the forward broke.
        """
        token_ids = [*self._encode(request), *output_ids]
        self._check_fits(len(token_ids))
        job = self._worker.stream(
            lambda _: iter((self._models.next_logits(token_ids, candidates),))
        )
        seen = set(token_ids)
        return tuple(
            request.sampling.penalised(logit) if candidate in seen else logit
            for candidate, logit in zip(candidates, next(job), strict=True)
        )

    def memory_bytes(self) -> int:
        """Bytes held in weights."""
        return self._models.memory_bytes()

    def close(self) -> None:
        """Cancel what runs, free the weights and stop the worker, where it is this pair's own."""
        if not self._guest:
            self._worker.close(last=self._models.close)
            return
        try:
            self._worker.call(self._models.close)
        except GenerationFailed:  # the host went before its guest: nothing runs any more
            self._models.close()

    def _check(self, request: GenerationRequest, *, reuse: bool) -> _Run:
        policy = self._policy(request)
        prompt_ids = self._encode(request)
        self._check_fits(len(prompt_ids))
        # The last token is put out and never fed: it needs no position.
        room = self._models.context_length - len(prompt_ids) + 1
        stable = self._stable_length(request, prompt_ids) if reuse else 0
        max_new_tokens = min(request.max_new_tokens, room)
        return _Run(request, prompt_ids, max_new_tokens, policy, reuse, stable)

    def _policy(self, request: GenerationRequest) -> DraftPolicy:
        if request.mode == "ar":
            return PLAIN
        num_drafts = self._num_drafts(request.block_size)
        if request.policy == "fixed":
            return FixedDrafts(num_drafts)
        if not request.sampling.greedy and request.sampling.seed is not None:
            return SeededDrafts(num_drafts)
        return AdaptiveDrafts(self._step_costs.setdefault(num_drafts, StepCosts(num_drafts)))

    def _num_drafts(self, block_size: int | None) -> int:
        own, largest = self._models.block_size, self._models.max_block_size
        if own is None:
            raise RequestError("No drafter is loaded: choose one, or decode in mode 'ar'.")
        if block_size is not None and largest is not None and block_size > largest:
            raise RequestError(
                f"Block size {block_size} is more than this drafter's {largest}: "
                f"choose at most {largest}."
            )
        return (block_size or own) - 1

    def _encode(self, request: GenerationRequest) -> list[int]:
        with self._encoding:
            return encode_prompt(self._tokenizer, request.messages, request.thinking)

    def _stable_length(self, request: GenerationRequest, prompt_ids: list[int]) -> int:
        """Where to set a savepoint: 0, and nothing is encoded again, for caches that need none."""
        if not self._models.need_savepoints:
            return 0
        with self._encoding:
            messages, thinking = request.messages, request.thinking
            return stable_length(self._tokenizer, messages, thinking, prompt_ids)

    def _check_fits(self, num_tokens: int) -> None:
        context_length = self._models.context_length
        if num_tokens > context_length:
            raise PromptTooLong(
                f"The conversation has {num_tokens:,} tokens and the model holds "
                f"{context_length:,}: shorten it or start a new one."
            )

    def _check_room(self, runs: Sequence[_Run]) -> None:
        if isinstance(self._models, MemoryKeeper):
            lengths = [len(run.prompt_ids) + run.max_new_tokens for run in runs]
            drafting = any(run.request.mode != "ar" for run in runs)
            reason = self._models.no_room_reason(lengths, drafting=drafting)
            if reason is not None:
                raise RequestError(reason)

    def _free_unused(self) -> None:
        if isinstance(self._models, MemoryKeeper):
            self._models.free_unused()

    def _events(self, run: _Run, clock: Stopwatch, job: Job) -> Iterator[DecodeEvent]:
        """One lane's events with its text, on the worker's thread."""
        return in_pieces(lambda chunk: self._attempt(run, clock, job, chunk), self._free_unused)

    def _attempt(
        self, run: _Run, clock: Stopwatch, job: Job, prefill_chunk: int
    ) -> Generator[DecodeEvent, None, None]:
        request, eos_ids = run.request, self._models.eos_ids
        prompt_ids = run.prompt_ids if run.reuse else None
        lane = self._models.open_lane(
            request.sampling, request.mode, request.block_size, prompt_ids
        )
        try:
            steps = decode(
                lane,
                run.prompt_ids,
                policy=run.policy,
                max_new_tokens=run.max_new_tokens,
                eos_ids=eos_ids,
                context_length=self._models.context_length,
                clock=clock.elapsed_s,
                cancelled=lambda: job.should_end,
                queue_s=job.queue_s,
                prefill_chunk=prefill_chunk,
                stable_length=run.stable_length,
            )
            stop = (*request.stop, *stop_texts(self._tokenizer))
            detokenizer = Detokenizer(self._tokenizer, stop)
            with closing(steps):
                yield from with_text(steps, detokenizer, eos_ids, clock.elapsed_s)
        finally:
            lane.close()


def with_text(
    events: Iterator[PrefillDone | StepDone | Finished],
    detokenizer: Detokenizer,
    eos_ids: frozenset[int],
    clock: Callable[[], float],
) -> Iterator[DecodeEvent]:
    """Add the text after each event that brings tokens, and end the run at a stop text.

    A step is cut after the token that completes a stop text: its drafts may reach further, and
    AR would not have.

    Args:
        events: of one run, Finished last.
        detokenizer: fresh.
        eos_ids: stop tokens, which are not printed whatever the tokenizer thinks of them.
        clock: this run's seconds.
    """
    for event in events:
        if isinstance(event, Finished):
            text = detokenizer.finish(cut=event.reason != "stop")
            if text:
                yield TextDelta(text)
            yield replace(event, reason="stop") if detokenizer.stopped else event
            return
        token_ids = (event.token_id,) if isinstance(event, PrefillDone) else event.token_ids
        printable = token_ids[:-1] if token_ids[-1] in eos_ids else token_ids
        text, num_taken = detokenizer.take(printable)
        if detokenizer.stopped and isinstance(event, StepDone):
            yield replace(event, token_ids=token_ids[:num_taken])
        else:
            yield event
        if text:
            yield TextDelta(text)
        if detokenizer.stopped:
            yield Finished("stop", clock())
            return
