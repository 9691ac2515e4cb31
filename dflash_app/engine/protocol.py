"""What a backend gives the engine, and what the engine gives everything above it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from dflash_app.events import DecodeEvent
from dflash_app.request import GenerationRequest, Mode, SamplingParams

DraftT = TypeVar("DraftT")
PairT_contra = TypeVar("PairT_contra", contravariant=True)

Quantization = Literal["nf4", "int8", "4bit", "8bit"]
"""Linear weights in 4 or 8 bits.

torch: "nf4" (NormalFloat, blocks of 64) and "int8" (one scale a row). mlx: "4bit" and "8bit"
(affine, groups of 64, embeddings included). Each backend refuses what is the other's.
"""

ON_SERVER = "server"
"""`dtype` and `rollback_kind` of a pair that runs on a server, which tells neither."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of one verification, read from the device once.

    Attributes:
        drafted_ids: the drafts as host integers (they lived on the device until now).
        num_accepted: accepted drafts in [0, len(drafted_ids)], bonus excluded.
        bonus_id: the target's own next token after the accepted drafts.
        confidences: drafter probability of each draft, or None.
        propose_s: seconds of drafting on the device's own clock, where drafting goes on after
            `propose` has returned; None where the host's clock tells them.
        startup_s: seconds of the step that were spent on recording what later steps repeat.
    """

    drafted_ids: tuple[int, ...]
    num_accepted: int
    bonus_id: int
    confidences: tuple[float, ...] | None = None
    propose_s: float | None = None
    startup_s: float = 0.0

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens this step commits: accepted drafts, then the bonus token."""
        return (*self.drafted_ids[: self.num_accepted], self.bonus_id)


class Lane(Protocol[DraftT]):
    """One request on one device, batch 1: owns its caches, sampler and random state.

    After prefill the first token is the anchor; the anchor is never in the cache: `verify` feeds it
    together with the drafts.
    """

    @property
    def length(self) -> int:
        """Tokens in the target's cache."""

    def extend(self, token_ids: Sequence[int]) -> None:
        """Prefill a chunk of the prompt (target forward, drafter context)."""

    def set_savepoint(self) -> None:
        """Let a later lane go back to what is held now; asked of models that `need_savepoints`."""

    def first_token(self) -> int:
        """Sample the first output token from the last prefilled position; it becomes the anchor."""

    def propose(self, num_draft: int) -> DraftT:
        """Draft `num_draft` tokens after the anchor; 0 drafts nothing (AR). No host sync."""

    def verify(self, draft: DraftT) -> Verified:
        """Run the target over anchor and drafts, accept, and take the bonus token as new anchor."""

    def rewind(self, length: int) -> None:
        """Keep the first `length` tokens of the target's cache and forget the rest."""

    def close(self) -> None:
        """Free the caches, or leave them to the next lane where it may reuse them."""


class LoadedModels(Protocol):
    """Target and drafter in memory on one device; made by a backend, used on its worker thread.

    Attributes:
        context_length: most positions the target can hold.
        block_size: the drafter's own, anchor included; None without a drafter.
        max_block_size: the largest block the drafter accepts; None without a drafter.
        eos_ids: tokens that end a turn.
        device: "cpu", "cuda:0", "mps".
        dtype: what is computed in: "float32", "bfloat16", "float16".
        rollback_kind: how the target's caches forget rejected tokens: "crop", "replay", "slice", or
            "snapshot", the fallback that costs a second forward.
        quantization: what the target's weights are stored as where that is not `dtype` ("nf4",
            "int8", a checkpoint's own such as "fp8"); None where it is.
        drafter_quantization: the same of the drafter.
        warnings: a sentence for each way in which this is not a plain load: slower than it could
            be, or lossless up to rounding only.
        need_savepoints: a lane's caches go back to an earlier turn only where it set a savepoint.
    """

    context_length: int
    block_size: int | None
    max_block_size: int | None
    eos_ids: frozenset[int]
    device: str
    dtype: str
    rollback_kind: str
    quantization: str | None
    drafter_quantization: str | None
    warnings: tuple[str, ...]
    need_savepoints: bool

    @property
    def path(self) -> str:
        """How the target decodes and, where that is not the fastest way, why.

        "CUDA graphs", "static cache", "dynamic cache: recurrent layers".
        """

    @property
    def drafter_path(self) -> str | None:
        """The same of the drafter; None without one."""

    def open_lane(
        self,
        sampling: SamplingParams,
        mode: Mode,
        block_size: int | None,
        prompt_ids: Sequence[int] | None = None,
    ) -> Lane[Any]:
        """Open a lane; what the last one left is reused or freed.

        Args:
            sampling: how tokens are drawn.
            mode: "ar" needs no drafter.
            block_size: None takes the drafter's own.
            prompt_ids: what the lane will read. It holds as much of that as can be reused, never
                the last token, and leaves its caches to the next lane. None starts with nothing
                and leaves nothing.

        Raises:
            RequestError: the mode needs a drafter and none is loaded, or the block is too large.
        """

    def next_logits(self, token_ids: Sequence[int], candidates: Sequence[int]) -> tuple[float, ...]:
        """The target's own logits of `candidates` after `token_ids`, from one plain forward."""

    def memory_bytes(self) -> int:
        """Bytes held in weights (target and drafter)."""

    def close(self) -> None:
        """Free the weights."""


@runtime_checkable
class MemoryKeeper(Protocol):
    """Models that know what a request takes, and can free what none needs; not all do."""

    def no_room_reason(self, lengths: Sequence[int], *, drafting: bool) -> str | None:
        """Why lanes of so many tokens do not fit into the memory that is free, or None.

        Called on any thread, before anything is computed.

        Args:
            lengths: of each lane that is open at once, prompt and output limit together.
            drafting: whether any of them drafts.
        """

    def free_unused(self) -> None:
        """Free what was kept for later requests; called on the worker's thread, with no lane."""


@runtime_checkable
class StepRecorder(Protocol):
    """Models that record their steps (CUDA graphs), which costs time once; not all do."""

    @property
    def startup_s(self) -> float:
        """Seconds spent on recording so far; 0.0 where nothing was recorded."""


class LoadedPair(Protocol):
    """A pair that is ready to run: what session, race, UI, CLI and benchmarks use."""

    @property
    def name(self) -> str: ...

    @property
    def backend(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def rollback_kind(self) -> str: ...

    @property
    def quantization(self) -> str | None: ...

    @property
    def drafter_quantization(self) -> str | None: ...

    @property
    def path(self) -> str:
        """How the target decodes and, where that is not the fastest way, why.

        A run may change it (graphs that cannot be captured); a closed pair still tells it.
        """

    @property
    def drafter_path(self) -> str | None:
        """The same of the drafter; None without one."""

    @property
    def startup_s(self) -> float:
        """Seconds spent so far on recording steps that later ones repeat; 0.0 without any."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of this load, a sentence each."""

    @property
    def block_size(self) -> int | None: ...

    @property
    def context_length(self) -> int: ...

    def stream(self, request: GenerationRequest) -> Iterator[DecodeEvent]:
        """Decode one request; closing the iterator cancels within one step.

        Raises:
            RequestError: refused before anything is computed (PromptTooLong included).
            GenerationFailed: the decode loop broke.
        """

    def race(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, DecodeEvent]]:
        """Decode several requests as lanes under a fair clock; yields (lane, event).

        A server's lanes run one after the other.
        """

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Each token as printable text, for showing one by one."""

    def next_logits(
        self,
        request: GenerationRequest,
        output_ids: Sequence[int],
        candidates: Sequence[int],
    ) -> tuple[float, ...]:
        """The target's logits of `candidates` after the request's prompt and `output_ids`.

        Raises:
            RequestError: the pair is on a server, which tells none.
        """

    def memory_bytes(self) -> int:
        """Bytes held in weights."""

    def close(self) -> None:
        """Stop the worker and free the weights."""


def on_server(loaded: LoadedPair) -> bool:
    """Whether a server runs the pair: its lanes race one after the other, it tells no logits."""
    return loaded.rollback_kind == ON_SERVER


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a pair.

    Attributes:
        device: None lets the backend choose ("cuda:0" where there is one, else "mps", else "cpu").
            "auto" spreads the target's layers over every GPU; those that find no room stay in the
            CPU's memory or on disk and cross over in every step, which is slow and said.
        dtype: "float32", "bfloat16", "float16", or None: float32 on CPU, bfloat16 elsewhere, and
            for nf4 what the CPU multiplies fast.
        drafter: False loads the target alone.
        num_threads: compute threads of the CPU; None leaves the library's own.
        quantization: of the target's linear weights; None loads them as `dtype`.
        drafter_quantization: of the drafter's. It needs not be the target's.
        max_memory_bytes: with device "auto", most weights on each GPU (without one: in memory);
            None takes what is free.
        snapshot: let the target's caches go back by snapshots, which any family can and which costs
            a second forward; False takes the family's own way and refuses one that has none.
    """

    device: str | None = None
    dtype: str | None = None
    drafter: bool = True
    num_threads: int | None = None
    quantization: Quantization | None = None
    drafter_quantization: Quantization | None = None
    max_memory_bytes: int | None = None
    snapshot: bool = False

    def of_target(self) -> "LoadOptions":
        """What of it makes another target of the same files: equal ones can share a target."""
        return replace(self, drafter=True, num_threads=None, drafter_quantization=None)


class Backend(Protocol[PairT_contra]):
    """A way to load pairs; `PairT_contra` is the registry's Pair, which the engine never opens."""

    name: str

    def unavailable_reason(self) -> str | None:
        """None where the backend works here, else one sentence that names the cure."""

    def load(self, pair: PairT_contra, options: LoadOptions) -> LoadedPair:
        """Load a pair that is on this machine; loading another drafter keeps the target.

        Raises:
            PairNotReady, LoadError, BackendUnavailable.
        """


@runtime_checkable
class SupportTeller(Protocol[PairT_contra]):
    """A backend that can tell without loading whether it can run a pair; not every one can."""

    def unsupported_reason(
        self, pair: PairT_contra, target_dir: Path | None, drafter_dir: Path | None
    ) -> str | None:
        """Why the pair cannot run whatever is downloaded, in one sentence; None where it can.

        Called for every pair of a list: it must be quick and import no tensor library.

        Args:
            pair: a registry row.
            target_dir: the target's folder where it is complete.
            drafter_dir: the drafter's folder where it is complete.
        """


@runtime_checkable
class SetupTeller(Protocol):
    """A backend that can tell how it is set up on this machine; not every one can."""

    def describe_setup(self) -> str:
        """Version, device and limits, in a few words; may import the backend's library.

        Raises:
            BackendUnavailable: the library does not start; says the cure.
        """


@runtime_checkable
class PairChecker(Protocol[PairT_contra]):
    """A backend that can tell before it loads whether it will refuse; not every one can."""

    def check(self, pair: PairT_contra, options: LoadOptions) -> None:
        """Refuse, without reading weights, what `load` would refuse; the pair in memory may stay.

        Raises:
            PairNotReady, LoadError, BackendUnavailable: as `load` would say it.
        """


@runtime_checkable
class BesideLoader(Protocol[PairT_contra]):
    """A backend that can load a pair on the thread of another, so that both may race."""

    def load_beside(self, pair: PairT_contra, options: LoadOptions, host: LoadedPair) -> LoadedPair:
        """Load a pair while `host` stays in memory; what they have in common is shared.

        Args:
            pair: a registry row.
            options: how to load it.
            host: loaded by this backend; once it is closed, what is beside it runs no more.

        Raises:
            PairNotReady, LoadError, BackendUnavailable: as `load`; LoadError also where both do not
                fit into memory, told before any weight is read.
        """
