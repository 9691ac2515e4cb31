"""What a backend gives the engine, and what the engine gives everything above it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dflash_app.events import DecodeEvent
from dflash_app.request import GenerationRequest, Mode, SamplingParams

DraftT = TypeVar("DraftT")
PairT_contra = TypeVar("PairT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of one verification, read from the device once.

    Attributes:
        drafted_ids: the drafts as host integers (they lived on the device until now).
        num_accepted: accepted drafts in [0, len(drafted_ids)], bonus excluded.
        bonus_id: the target's own next token after the accepted drafts.
        confidences: drafter probability of each draft, or None.
    """

    drafted_ids: tuple[int, ...]
    num_accepted: int
    bonus_id: int
    confidences: tuple[float, ...] | None = None

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens this step commits: accepted drafts, then the bonus token."""
        return (*self.drafted_ids[: self.num_accepted], self.bonus_id)


class Lane(Protocol[DraftT]):
    """One request on one device, batch 1: owns its caches, sampler and random state.

    `length` counts the tokens in the target's cache. After prefill the first token is the anchor;
    the anchor is never in the cache: `verify` feeds it together with the drafts.
    """

    length: int

    def extend(self, token_ids: Sequence[int]) -> None:
        """Prefill a chunk of the prompt (target forward, drafter context)."""

    def first_token(self) -> int:
        """Sample the first output token from the last prefilled position; it becomes the anchor."""

    def propose(self, num_draft: int) -> DraftT:
        """Draft `num_draft` tokens after the anchor; 0 drafts nothing (AR). No host sync."""

    def verify(self, draft: DraftT) -> Verified:
        """Run the target over anchor and drafts, accept, and take the bonus token as new anchor."""

    def rewind(self, length: int) -> None:
        """Keep the first `length` tokens of the target's cache and forget the rest."""

    def close(self) -> None:
        """Free the caches."""


class LoadedModels(Protocol):
    """Target and drafter in memory on one device; made by a backend, used on its worker thread.

    Attributes:
        context_length: most positions the target can hold.
        block_size: the drafter's own, anchor included; None without a drafter.
        max_block_size: the largest block the drafter accepts; None without a drafter.
        eos_ids: tokens that end a turn.
        device: "cpu", "cuda:0", "mps".
        dtype: "float32", "bfloat16".
    """

    context_length: int
    block_size: int | None
    max_block_size: int | None
    eos_ids: frozenset[int]
    device: str
    dtype: str

    def open_lane(self, sampling: SamplingParams, mode: Mode, block_size: int | None) -> Lane[Any]:
        """Open a lane; `block_size` None takes the drafter's own.

        Raises:
            RequestError: the mode needs a drafter and none is loaded, or the block is too large.
        """

    def next_logits(self, token_ids: Sequence[int], candidates: Sequence[int]) -> tuple[float, ...]:
        """The target's own logits of `candidates` after `token_ids`, from one plain forward."""

    def memory_bytes(self) -> int:
        """Bytes held in weights (target and drafter)."""

    def close(self) -> None:
        """Free the weights."""


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
        """Decode several requests as lanes under a fair clock; yields (lane, event)."""

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Each token as printable text, for showing one by one."""

    def next_logits(
        self,
        request: GenerationRequest,
        output_ids: Sequence[int],
        candidates: Sequence[int],
    ) -> tuple[float, ...]:
        """The target's logits of `candidates` after the request's prompt and `output_ids`."""

    def memory_bytes(self) -> int:
        """Bytes held in weights."""

    def close(self) -> None:
        """Stop the worker and free the weights."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a pair.

    Attributes:
        device: None lets the backend choose ("cuda:0" where there is one, else "mps", else "cpu").
        dtype: "float32", "bfloat16", or None: float32 on CPU, bfloat16 elsewhere.
        drafter: False loads the target alone.
        num_threads: compute threads of the CPU; None leaves the library's own.
    """

    device: str | None = None
    dtype: str | None = None
    drafter: bool = True
    num_threads: int | None = None


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
