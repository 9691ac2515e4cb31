"""One turn, recorded on every way out: finished, stopped, cancelled, failed."""

import logging
import secrets
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from statistics import fmean
from typing import TypeVar, cast

from dflash_app.engine.protocol import ON_SERVER, LoadedPair, on_server
from dflash_app.errors import GenerationFailed, StoreError
from dflash_app.events import DecodeEvent, Finished, TextDelta, token_ids_of
from dflash_app.metrics import summarize
from dflash_app.request import GenerationRequest
from dflash_app.store.records import RunEnd, RunFilter, RunStart
from dflash_app.store.runs import Store

PROGRESS_INTERVAL_S = 1.0
"""Most text that a crash can lose, in seconds of decoding."""

_COMPARED_RUNS = 100

EventT = TypeVar("EventT")

log = logging.getLogger(__name__)


class Recording:
    """The row of one run, kept while its events pass.

    A store that fails never stops the run: the user waits for the text. The row is tried once more
    at the end, whole, and what then still fails is kept in `problem`.

    Attributes:
        run_id: in the store; None where the row could not be begun.
        problem: why the run is not recorded; None while all is well.
        closed: the run has ended and was recorded, or could not be.
    """

    def __init__(
        self,
        store: Store,
        start: RunStart,
        loaded: LoadedPair,
        began: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Begin the row.

        Args:
            store: where.
            start: what is known of the run.
            loaded: the pair that runs.
            began: told the row's id once it is there.
        """
        self.run_id: int | None = None
        self.problem: StoreError | None = None
        self.closed = False
        self._store = store
        self._start = start
        self._loaded = loaded
        self._began = began
        self._events: list[DecodeEvent] = []
        self._output: list[str] = []
        self._token_ids: list[int] = []
        self._saved_s = time.monotonic()
        try:
            self._begin()
        except StoreError as error:
            self.problem = error

    def add(self, event: DecodeEvent) -> None:
        """Take an event; the last one closes the row, so whoever sees it finds the run stored."""
        if isinstance(event, TextDelta):
            self._output.append(event.text)
            self._save_progress()
            return
        self._events.append(event)
        self._token_ids.extend(token_ids_of(event))
        if isinstance(event, Finished):
            self.close(event.reason)

    def close(self, reason: RunEnd, error: BaseException | None = None) -> None:
        """Write how the run ended; only the first call counts."""
        if self.closed:
            return
        self.closed = True
        # Only now: the run itself may have changed how its pair decodes.
        drafting = self._start.drafter_path is not None
        paths = (self._loaded.path, self._loaded.drafter_path if drafting else None)
        try:
            self._store.finish_run(
                self._begin() if self.run_id is None else self.run_id,
                reason,
                output="".join(self._output),
                token_ids=self._token_ids,
                metrics=summarize(self._events),
                error=None if error is None else str(error) or type(error).__name__,
                paths=paths,
                events=self._events,
            )
            self.problem = None
        except StoreError as problem:
            self.problem = problem

    def close_after(self, error: BaseException) -> None:
        """Write that the run was left through `error`, and keep what the store had to say.

        A reader that closes the stream, and Ctrl+C, cancel; anything else failed.
        """
        if isinstance(error, GeneratorExit | KeyboardInterrupt):
            self.close("cancelled")
        else:
            self.close("failed", error)
        if self.problem is not None:
            log.warning("A run is not recorded: %s", self.problem)

    def check_closed(self) -> None:
        """Refuse a stream that ended before its last event.

        Raises:
            GenerationFailed: `Finished` has not come.
        """
        if not self.closed:
            raise GenerationFailed("Decoding ended without a last event: try again.")

    def _begin(self) -> int:
        self.run_id = self._store.start_run(self._start)
        self._began(self.run_id)
        return self.run_id

    def _save_progress(self) -> None:
        now_s = time.monotonic()
        if self.run_id is None or self.problem is not None:
            return  # a store that failed once is not waited for again before the end
        if now_s - self._saved_s >= PROGRESS_INTERVAL_S:
            self._saved_s = now_s
            try:
                self._store.save_progress(self.run_id, "".join(self._output), self._token_ids)
            except StoreError as error:
                self.problem = error


def run(
    loaded: LoadedPair,
    store: Store,
    request: GenerationRequest,
    *,
    source: str,
    target_revision: str | None = None,
    drafter_revision: str | None = None,
    group_id: str | None = None,
    owner: str | None = None,
    reuse: bool = True,
    began: Callable[[int], None] = lambda _: None,
) -> Iterator[DecodeEvent]:
    """Decode one turn and record it.

    Closing the iterator cancels the decoding and records "cancelled" with what had come.

    Args:
        loaded: the pair.
        store: where the run is recorded. Where that fails the turn goes on all the same.
        request: the turn. Where it samples without a seed, one is drawn and recorded.
        source: who asks: "chat", "cli", "benchmark", "api".
        target_revision: commit of the target's files, where known.
        drafter_revision: commit of the drafter's files, where known.
        group_id: joins runs that belong together.
        owner: whose run it is, see `RunStart`.
        reuse: take what the prompt shares with the turn before from the cache; False reads all of
            it, so that runs of one prompt begin alike.
        began: told the run's id once its row is begun: before anything is decoded, or, where the
            store failed then, at the end.

    Yields:
        The engine's events. When `Finished` comes, the run is in the store.

    Raises:
        RequestError, GenerationFailed: from the engine; the run is recorded as failed.
        StoreError: after `Finished`, so that no text is lost: the run could not be recorded.
    """
    request = with_seed(request, loaded)
    revisions = (target_revision, drafter_revision)
    start = describe(loaded, request, source, revisions, group_id, owner=owner)
    recording = Recording(store, start, loaded, began)
    try:
        stream = loaded.stream(request) if reuse else _alone(loaded, request)
        with closing(closable(stream)) as events:
            for event in events:
                recording.add(event)
                yield event
        recording.check_closed()
    except BaseException as error:
        recording.close_after(error)
        raise
    if recording.problem is not None:
        raise recording.problem


def _alone(loaded: LoadedPair, request: GenerationRequest) -> Iterator[DecodeEvent]:
    """The run as the only lane of a race, which takes nothing from the turn before."""
    with closing(closable(loaded.race([request]))) as lanes:
        for _, event in lanes:
            yield event


def describe(
    loaded: LoadedPair,
    request: GenerationRequest,
    source: str,
    revisions: tuple[str | None, str | None] = (None, None),
    group_id: str | None = None,
    *,
    owner: str | None = None,
) -> RunStart:
    """Everything about a run that is known before it begins.

    Args:
        loaded: the pair.
        request: the turn, its seed drawn.
        source: who asks.
        revisions: commits of the target's and the drafter's files, None where unknown.
        group_id: shared by the lanes of a race.
        owner: whose run it is. A visitor may read the row: the address of a server is not in it.
    """
    drafting = request.mode == "dflash"
    sampling = request.sampling
    return RunStart(
        source=source,
        pair=loaded.name,
        target_revision=revisions[0],
        drafter_revision=revisions[1] if drafting else None,
        backend=loaded.backend,
        device=ON_SERVER if owner is not None and on_server(loaded) else loaded.device,
        dtype=loaded.dtype,
        mode=request.mode,
        rollback_kind=loaded.rollback_kind,
        quantization=loaded.quantization,
        drafter_quantization=loaded.drafter_quantization if drafting else None,
        path=loaded.path,
        drafter_path=loaded.drafter_path if drafting else None,
        policy=request.policy if drafting and not on_server(loaded) else None,
        block_size=(request.block_size or loaded.block_size) if drafting else None,
        trained_block_size=loaded.block_size if drafting else None,
        temperature=float(sampling.temperature),
        top_p=float(sampling.top_p),
        top_k=sampling.top_k,
        min_p=float(sampling.min_p),
        repetition_penalty=float(sampling.repetition_penalty),
        seed=sampling.seed,
        max_new_tokens=request.max_new_tokens,
        stop=request.stop,
        thinking=request.thinking,
        messages=tuple({"role": each.role, "content": each.content} for each in request.messages),
        group_id=group_id,
        owner=owner,
        task=request.task,
    )


def where(loaded: LoadedPair, request: GenerationRequest) -> str:
    """Device, precision and path of a request's run, as "cpu, float32, static cache".

    Of a server its engine and address, as "vLLM 0.32.0, gpu-box:8000".
    And what was spent so far on recording steps, where any are: "CUDA graphs, 0.8 s to start up".
    """
    start = describe(loaded, request, source="")
    if start.on_server:
        return f"{start.paths}, {start.device}"
    started_up = f", {loaded.startup_s:.1f} s to start up" if loaded.startup_s else ""
    return f"{start.device}, {start.precision}, {start.paths}{started_up}"


def experiments(loaded: LoadedPair, request: GenerationRequest) -> tuple[str, ...]:
    """A sentence for each thing that a request asks of a pair and that it was not made for."""
    trained, wanted = loaded.block_size, request.block_size
    if request.mode == "ar" or trained is None or wanted is None or wanted <= trained:
        return ()
    return (
        f"Block size {wanted} is an experiment, as this drafter was trained for {trained}: the "
        f"text stays the target's own, but drafts beyond {trained - 1} were never trained.",
    )


def drafter_effect(
    store: Store, loaded: LoadedPair, prompt: str, acceptance_length: float | None
) -> str | None:
    """What storing the drafter in fewer bits did to acceptance; None where it is stored whole.

    Args:
        store: holds the runs to compare with: of this prompt with the whole drafter, or where there
            is none of any prompt.
        loaded: the pair that ran.
        prompt: of the run.
        acceptance_length: its mean.
    """
    if loaded.drafter_quantization is None or acceptance_length is None:
        return None
    said = f"With the drafter in {loaded.drafter_quantization} the acceptance length was "
    said += f"{acceptance_length:.2f}"
    try:
        runs = store.list_runs(RunFilter(pair=loaded.name, mode="dflash"), limit=_COMPARED_RUNS)
    except StoreError:
        return f"{said}."
    whole = [
        (run.start.prompt == prompt, run.metrics.mean_acceptance_length)
        for run in runs
        if run.start.drafter_quantization is None and run.start.quantization == loaded.quantization
    ]
    known = [(same, length) for same, length in whole if length is not None]
    alike = [length for same, length in known if same]
    lengths = alike or [length for _, length in known]
    if not lengths:
        return f"{said}: run the pair with the whole drafter too, to see what that changes."
    of = f"{len(lengths)} of this prompt" if alike else f"{len(lengths)} of other prompts"
    return f"{said}, and {fmean(lengths):.2f} with the whole one (runs in the log: {of})."


def with_seed(request: GenerationRequest, loaded: LoadedPair | None = None) -> GenerationRequest:
    """The request with a seed drawn where it samples without one, so that it can be repeated.

    Not for adaptive drafts: with a seed they would have to be fixed. A server knows no such policy.

    Args:
        request: the turn.
        loaded: what runs it, where that is known.
    """
    if request.sampling.greedy or request.sampling.seed is not None:
        return request
    adaptive = request.mode == "dflash" and request.policy == "adaptive"
    if adaptive and not (loaded is not None and on_server(loaded)):
        return request
    sampling = replace(request.sampling, seed=secrets.randbits(32))
    return replace(request, sampling=sampling)


def new_group_id() -> str:
    """An id for runs that belong together."""
    return uuid.uuid4().hex


def closable(events: Iterator[EventT]) -> Generator[EventT, None, None]:
    """The engine's streams have `close`, which cancels; their protocol says only Iterator."""
    return cast(Generator[EventT, None, None], events)
