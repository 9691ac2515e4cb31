"""Small real implementations of the engine's protocols: they play what a test wrote down."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.errors import LoadError, RequestError
from dflash_app.events import (
    DecodeEvent,
    Finished,
    FinishReason,
    PrefillDone,
    ServerCounts,
    StepDone,
    TextDelta,
    TokensArrived,
)
from dflash_app.registry.pair import Pair
from dflash_app.request import GenerationRequest, Message

Script = Sequence[DecodeEvent | BaseException]


def ask(text: str = "How many divisors has 196?", **limits: object) -> GenerationRequest:
    return GenerationRequest(messages=(Message("user", text),), **limits)  # type: ignore[arg-type]


def script_of(
    *blocks: tuple[int, ...], num_draft: int = 0, reason: FinishReason = "stop"
) -> list[DecodeEvent]:
    """A run that puts out token 1 and then `blocks`, one a step, a letter for each token.

    The prefill takes 0.5 s and each step 0.25 s. With `num_draft`, every step drafts that many
    tokens and accepts all of its block but the bonus token.
    """
    events: list[DecodeEvent] = [PrefillDone(4, 0, 1, 0.0, 0.5), TextDelta("b")]
    elapsed_s = 0.5
    for block in blocks:
        elapsed_s += 0.25
        drafted = (*block[:-1], *(0,) * (num_draft - len(block) + 1)) if num_draft else ()
        events.append(
            StepDone(block, drafted, len(block) - 1 if num_draft else 0, None, 0.05, 0.2, elapsed_s)
        )
        events.append(TextDelta("".join(chr(ord("a") + token_id % 26) for token_id in block)))
    return [*events, Finished(reason, elapsed_s)]


def server_script_of(
    *chunks: tuple[int, ...],
    counts: ServerCounts | None = None,
    tell_ids: bool = True,
    reason: FinishReason = "stop",
) -> list[DecodeEvent]:
    """A run on a server that sends `chunks`, a letter for each token.

    The first arrives after 0.5 s and each further one 0.25 s later.
    """
    events: list[DecodeEvent] = []
    elapsed_s = 0.25
    for chunk in chunks:
        elapsed_s += 0.25
        events.append(TokensArrived(len(chunk), chunk if tell_ids else (), elapsed_s))
        events.append(TextDelta("".join(chr(ord("a") + token_id % 26) for token_id in chunk)))
    return [*events, *([counts] if counts else []), Finished(reason, elapsed_s + 0.01)]


@dataclass
class ScriptedPair:
    """A LoadedPair that plays scripts: an exception in a script is raised in its place.

    Attributes:
        scripts: `stream` plays the first, `race` one for each lane, a turn each.
        logits: what `next_logits` answers for a candidate.
        requests: every request it was given.
        logit_calls: every (output_ids, candidates) it was asked for.
        was_closed_early: a reader left before the last event.
        closed: `close` was called.
    """

    scripts: Sequence[Script]
    name: str = "scripted"
    backend: str = "script"
    device: str = "cpu"
    dtype: str = "float32"
    rollback_kind: str = "crop"
    quantization: str | None = None
    drafter_quantization: str | None = None
    path: str = "static cache"
    drafter_path: str | None = "static cache"
    startup_s: float = 0.0
    warnings: tuple[str, ...] = ()
    block_size: int | None = 4
    context_length: int = 128
    logits: dict[int, float] = field(default_factory=dict)
    requests: list[GenerationRequest] = field(default_factory=list)
    logit_calls: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    was_closed_early: bool = False
    closed: bool = False

    def stream(self, request: GenerationRequest) -> Iterator[DecodeEvent]:
        for _, event in self._play([request]):
            yield event

    def race(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, DecodeEvent]]:
        yield from self._play(requests)

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        return [chr(ord("a") + token_id % 26) for token_id in token_ids]

    def next_logits(
        self, request: GenerationRequest, output_ids: Sequence[int], candidates: Sequence[int]
    ) -> tuple[float, ...]:
        self.logit_calls.append((tuple(output_ids), tuple(candidates)))
        return tuple(self.logits[candidate] for candidate in candidates)

    def memory_bytes(self) -> int:
        return 1000

    def close(self) -> None:
        self.closed = True

    def _play(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, DecodeEvent]]:
        self.requests.extend(requests)
        pending = {lane: list(self.scripts[lane]) for lane in range(len(requests))}
        try:
            while pending:
                for lane in list(pending):
                    if not pending[lane]:
                        del pending[lane]
                        continue
                    event = pending[lane].pop(0)
                    if isinstance(event, BaseException):
                        raise event
                    yield lane, event
        except GeneratorExit:
            self.was_closed_early = True
            raise


@dataclass
class ScriptedServerPair(ScriptedPair):
    """A LoadedPair on a server, as `plugins.remote` makes it: lanes run one after the other."""

    backend: str = "remote"
    device: str = "gpu-box:8000"
    dtype: str = "server"
    rollback_kind: str = "server"
    path: str = "vLLM 0.32.0"
    drafter_path: str | None = "vLLM 0.32.0"
    block_size: int | None = None
    context_length: int = 4096

    def next_logits(
        self, request: GenerationRequest, output_ids: Sequence[int], candidates: Sequence[int]
    ) -> tuple[float, ...]:
        raise RequestError("A server tells no logits.")

    def memory_bytes(self) -> int:
        return 0

    def _play(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, DecodeEvent]]:
        self.requests.extend(requests)
        try:
            for lane in range(len(requests)):
                for event in self.scripts[lane]:
                    if isinstance(event, BaseException):
                        raise event
                    yield lane, event
        except GeneratorExit:
            self.was_closed_early = True
            raise


@dataclass
class ScriptedBackend:
    """A Backend that loads `ScriptedPair`s.

    Attributes:
        reason: why it does not work here; None where it does.
        failing: names of pairs that cannot be loaded.
        events: what happened, in order: "load NAME", "load NAME beside HOST", "close NAME".
        options: of every load.
    """

    name: str = "script"
    reason: str | None = None
    failing: set[str] = field(default_factory=set)
    events: list[str] = field(default_factory=list)
    options: list[LoadOptions] = field(default_factory=list)

    def unavailable_reason(self) -> str | None:
        return self.reason

    def load(self, pair: Pair, options: LoadOptions) -> "ScriptedPair":
        return self._load(pair, options, f"load {pair.name}")

    def load_beside(self, pair: Pair, options: LoadOptions, host: LoadedPair) -> "ScriptedPair":
        return self._load(pair, options, f"load {pair.name} beside {host.name}")

    def _load(self, pair: Pair, options: LoadOptions, event: str) -> "ScriptedPair":
        self.events.append(event)
        self.options.append(options)
        if pair.name in self.failing:
            raise LoadError(f"{pair.name} is corrupt: download it again.")
        return _NotedPair(
            [script_of((2, 3), num_draft=3)] * 2,
            name=pair.name,
            backend=self.name,
            notes=self.events,
        )


@dataclass
class _NotedPair(ScriptedPair):
    notes: list[str] = field(default_factory=list)

    def close(self) -> None:
        super().close()
        self.notes.append(f"close {self.name}")
