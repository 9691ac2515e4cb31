"""ZeroGPU: models are placed once at the start, and every call decodes in a forked process.

The GPU is there only inside a function that `spaces.GPU` has decorated. That function runs in a
process forked for it, which has the models, but none of our threads; what goes in and comes out is
pickled, and of an error only its class comes out. So a worker thread is started inside the call,
events come out in batches, and errors come out as values. The store stays in the parent.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from dflash_app.backends.torch.backend import TorchBackend
from dflash_app.engine.local import LocalPair
from dflash_app.engine.protocol import LoadedModels, LoadOptions
from dflash_app.engine.worker import Worker
from dflash_app.errors import DFlashAppError, GenerationFailed, LoadError, PairNotReady
from dflash_app.events import DecodeEvent
from dflash_app.race import RaceLane, warm_up
from dflash_app.registry.pair import Pair
from dflash_app.request import GenerationRequest
from dflash_app.session import closable
from dflash_app.spaces.gpu_time import estimate_gpu_s

BATCH_S = 0.05
"""Events of so long cross the border together: each crossing costs a pickle and two thread hops."""
_WARM_UP_TOKENS = 8
_FACTS = frozenset(
    {"name", "backend", "device", "dtype", "rollback_kind", "quantization", "drafter_quantization"}
    | {"path", "drafter_path", "startup_s", "warnings", "block_size", "context_length"}
    | {"token_texts"}
)
"""Of `LoadedPair`, what says only what the pair is."""

ItemT = TypeVar("ItemT")
Gpu = Callable[..., Callable[[Any], Any]]
"""`spaces.GPU`, or what stands for it: `gpu(duration=, size=)` decorates a generator function."""


def on_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space; reads the variable as `spaces` 0.51 does."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


@dataclass(frozen=True, slots=True)
class Placed:
    """A pair whose models were put on the GPU before any call.

    Attributes:
        name: of the pair.
        tokenizer: the target's.
        models: used inside of calls only.
        warnings: what was found while it was loaded, a sentence each.
        num_bytes: of its weights: afterwards they cannot be counted in this process.
    """

    name: str
    tokenizer: Any
    models: LoadedModels
    warnings: tuple[str, ...]
    num_bytes: int

    def open(self, worker: Worker) -> LocalPair:
        """The pair as this process runs it."""
        return LocalPair(
            name=self.name,
            backend=TorchBackend.name,
            tokenizer=self.tokenizer,
            models=self.models,
            worker=worker,
            warnings=self.warnings,
        )


@dataclass(frozen=True, slots=True)
class Work:
    """What a call is to do; it is pickled.

    Attributes:
        kind: which method of a pair.
        requests: one for each lane.
        output_ids: for "logits".
        candidates: for "logits".
        num_bytes: of weights, by which the time is estimated.
    """

    kind: Literal["stream", "race", "logits"]
    requests: tuple[GenerationRequest, ...]
    num_bytes: int
    output_ids: tuple[int, ...] = ()
    candidates: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """What ended a call, as a value: raised, its words would be lost at the border."""

    error: DFlashAppError


class ZeroGpuPair:
    """`engine.protocol.LoadedPair` whose every run is one call of the GPU."""

    def __init__(self, placed: Placed, gpu: Gpu, size: str | None = None) -> None:
        """Decorate; must happen before the page is launched.

        Args:
            placed: the models.
            gpu: see `Gpu`.
            size: of the GPU: "large", "xlarge"; None takes what the models need.
        """
        self._placed = placed
        worker = Worker(f"refuse-{placed.name}")
        # Nothing runs in this process: the pair is asked what it is, and what it refuses.
        self._here = placed.open(worker)
        worker.close()
        self._warm_process: int | None = None
        self._call = gpu(duration=_gpu_seconds, size=size)(self._decode)

    def __getattr__(self, name: str) -> Any:
        """What the pair is does not depend on the process; what it does, it does in the call."""
        if name not in _FACTS:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return getattr(self._here, name)

    def stream(self, request: GenerationRequest) -> Iterator[DecodeEvent]:
        """Decode one request on the GPU; see `LoadedPair.stream`.

        Raises:
            RequestError: refused here, where it costs no time of the GPU, or inside.
            GenerationFailed: the loop broke, or there was no GPU (while iterating).
        """
        closable(self._here.stream(request)).close()
        return self._items(self._work("stream", (request,)))

    def race(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, DecodeEvent]]:
        """Decode several requests in one call; see `LoadedPair.race`."""
        closable(self._here.race(requests)).close()
        return self._items(self._work("race", requests))

    def next_logits(
        self,
        request: GenerationRequest,
        output_ids: Sequence[int],
        candidates: Sequence[int],
    ) -> tuple[float, ...]:
        """The target's logits; see `LoadedPair.next_logits`."""
        work = self._work("logits", (request,), tuple(output_ids), tuple(candidates))
        found: list[tuple[float, ...]] = list(self._items(work))
        return found[0]

    def memory_bytes(self) -> int:
        """Bytes of weights, as they were counted when they were placed."""
        return self._placed.num_bytes

    def close(self) -> None:
        """The models stay: they can be placed only once."""

    def _work(
        self,
        kind: Literal["stream", "race", "logits"],
        requests: Sequence[GenerationRequest],
        output_ids: tuple[int, ...] = (),
        candidates: tuple[int, ...] = (),
    ) -> Work:
        return Work(kind, tuple(requests), self._placed.num_bytes, output_ids, candidates)

    def _items(self, work: Work) -> Generator[Any, None, None]:
        """Unpack what comes out of the call, in the parent."""
        try:
            with closing(cast(Generator[Any, None, None], self._call(work))) as batches:
                for batch in batches:
                    yield from map(_raise_refused, batch)
        except DFlashAppError:
            raise
        except Exception as error:
            raise GenerationFailed(f"ZeroGPU gave no result: {_words_of(error)}") from error

    def _decode(self, work: Work) -> Iterator[tuple[Any, ...]]:
        """The call itself, in the forked process; everything that it starts ends with it."""
        worker = Worker(f"decode-{self._placed.name}")
        try:
            pair = self._placed.open(worker)
            if work.kind == "race" and self._warm_process != os.getpid():
                lanes = [RaceLane(pair, request) for request in work.requests]
                warm_up(lanes, max_tokens=_WARM_UP_TOKENS)
            self._warm_process = os.getpid()
            with closing(_run(pair, work)) as items:
                yield from in_batches(items)
        except DFlashAppError as error:
            yield (Refused(error),)
        finally:
            worker.close()


class ZeroGpuBackend:
    """PyTorch where the GPU comes and goes: pairs are placed at the start, and none later."""

    name = TorchBackend.name

    def __init__(self, gpu: Gpu | None = None, size: str | None = None) -> None:
        """Prepare this process; must come before anything else touches CUDA.

        Args:
            gpu: see `Gpu`; None takes that of Hugging Face's package `spaces`.
            size: see `ZeroGpuPair`.
        """
        if gpu is None:
            import spaces  # only a Space has it

            gpu = cast(Gpu, spaces.GPU)
        # Until the call, CUDA is emulated, on the thread that imported `spaces` and on no other.
        os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._gpu, self._size = gpu, size
        self._torch = TorchBackend()
        self._placed: dict[str, ZeroGpuPair] = {}

    def unavailable_reason(self) -> str | None:
        """None where PyTorch and transformers are installed, else the cure."""
        return self._torch.unavailable_reason()

    def unsupported_reason(
        self, pair: Pair, target_dir: Path | None, drafter_dir: Path | None
    ) -> str | None:
        """Why a pair cannot run here whatever is downloaded; see `SupportTeller`."""
        return self._torch.unsupported_reason(pair, target_dir, drafter_dir)

    def load(self, pair: Pair, options: LoadOptions) -> ZeroGpuPair:
        """The pair as it was placed; on the main thread it is placed, which must precede launching.

        Raises:
            PairNotReady: it was not placed at the start, or is not on this machine.
            LoadError: another device or precision is asked for, or it cannot become a model.
        """
        if (options.device, options.dtype, options.quantization) != (None, None, None):
            raise LoadError(
                "On ZeroGPU a pair stays as it was placed at the start: leave device and "
                "precision on auto."
            )
        if pair.name not in self._placed:
            if threading.current_thread() is not threading.main_thread():
                raise PairNotReady(
                    f"Pair {pair.name!r} was not placed on the GPU when this Space started: "
                    "choose another, or name it in DFLASH_APP_PAIRS."
                )
            tokenizer, models, warnings = self._torch.load_here(pair, LoadOptions())
            placed = Placed(pair.name, tokenizer, models, warnings, models.memory_bytes())
            self._placed[pair.name] = ZeroGpuPair(placed, self._gpu, self._size)
        return self._placed[pair.name]


def in_batches(items: Iterable[ItemT], interval_s: float = BATCH_S) -> Iterator[tuple[ItemT, ...]]:
    """Items in batches: the first at once, then what came in `interval_s` or a little more."""
    batch: list[ItemT] = []
    sent_s = float("-inf")
    for item in items:
        batch.append(item)
        now_s = time.monotonic()
        if now_s - sent_s >= interval_s:
            yield tuple(batch)
            batch, sent_s = [], now_s
    if batch:
        yield tuple(batch)


def _raise_refused(item: ItemT) -> ItemT:
    if isinstance(item, Refused):
        raise item.error
    return item


def _run(pair: LocalPair, work: Work) -> Generator[Any, None, None]:
    if work.kind == "logits":
        yield pair.next_logits(work.requests[0], work.output_ids, work.candidates)
        return
    run = pair.race(work.requests) if work.kind == "race" else pair.stream(work.requests[0])
    with closing(closable(cast(Iterator[Any], run))) as events:
        yield from events


def _gpu_seconds(work: Work) -> int:
    """What the call is announced to take; ZeroGPU asks before it forks, with the call's values."""
    return estimate_gpu_s(work.requests, work.num_bytes)


def _words_of(error: Exception) -> str:
    """What an error of `spaces` says: its message may hold links."""
    said = re.sub(r"<[^>]*>", "", str(getattr(error, "message", error)))
    return f"{' '.join(said.split())[:300].rstrip('.') or type(error).__name__}: try again later."
