"""A pair that is served elsewhere, as everything above the engine uses it."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Lock
from weakref import WeakSet

from dflash_app.engine.protocol import ON_SERVER
from dflash_app.errors import GenerationFailed, RequestError
from dflash_app.events import DecodeEvent
from dflash_app.request import GenerationRequest

from .capabilities import Capabilities, ServedModel
from .chat import Turn, chat_body, play
from .client import Server
from .dialect import Dialect
from .wire import Wire

UNTOLD_CONTEXT = 1_000_000
"""Taken where a server does not tell its context: as much as any request may ask for."""


@dataclass(frozen=True, slots=True)
class Place:
    """A model on a server that was reached."""

    server: Server
    dialect: Dialect
    capabilities: Capabilities
    model: ServedModel


class RemotePair:
    """Implements `LoadedPair` on one server or two; any number of threads may stream at once."""

    def __init__(
        self,
        name: str,
        target: Place,
        drafter: Place | None,
        *,
        block_size: int | None,
        warnings: Sequence[str] = (),
    ) -> None:
        """Take the servers' clients over.

        Args:
            name: of the pair.
            target: where plain decoding happens.
            drafter: where DFlash happens, maybe the same server; None without it.
            block_size: anchor included, where the server does not tell it.
            warnings: what was found while it was reached, a sentence each.
        """
        self._name, self._target, self._drafter = name, target, drafter
        told = drafter.capabilities.num_drafts if drafter is not None else None
        self._block_size = told + 1 if told else block_size
        self._warnings = tuple(warnings)
        self._turns: WeakSet[Turn] = WeakSet()
        self._lock = Lock()
        self._closed = False
        self._texts: dict[int, str] = {}

    @property
    def name(self) -> str:
        """The pair's name."""
        return self._name

    @property
    def backend(self) -> str:
        """The backend's name."""
        return "remote"

    @property
    def device(self) -> str:
        """Host and port, of both servers where they are two."""
        places = [self._target, self._drafter or self._target]
        return ", ".join(dict.fromkeys(place.server.host for place in places))

    @property
    def dtype(self) -> str:
        """What the server computes in is its own affair."""
        return ON_SERVER

    @property
    def rollback_kind(self) -> str:
        """So is how it forgets rejected tokens."""
        return ON_SERVER

    @property
    def quantization(self) -> str | None:
        """Not told."""
        return None

    @property
    def drafter_quantization(self) -> str | None:
        """Not told."""
        return None

    @property
    def path(self) -> str:
        """Engine and version."""
        return self._target.capabilities.label

    @property
    def drafter_path(self) -> str | None:
        """The same of the server that drafts; None without one."""
        return None if self._drafter is None else self._drafter.capabilities.label

    @property
    def startup_s(self) -> float:
        """Nothing is recorded here."""
        return 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know of these servers, a sentence each."""
        return self._warnings

    @property
    def block_size(self) -> int | None:
        """What the server drafts in a step, anchor included; None without a drafter or untold."""
        return None if self._drafter is None else self._block_size

    @property
    def context_length(self) -> int:
        """As the server tells it, else as much as may be asked for."""
        return self._target.model.context_length or UNTOLD_CONTEXT

    def stream(self, request: GenerationRequest) -> Turn:
        """Have a server decode one request; closing the iterator closes the connection.

        The request is sent at the first `next`.

        Raises:
            RequestError: refused here, or by the server (PromptTooLong included; while iterating).
            GenerationFailed: the server is gone, fails or breaks off (while iterating).
        """
        place, drafting = self._place(request)
        body = chat_body(place.dialect, place.model, request, drafting=drafting)

        def open_turn(wire: Wire) -> Generator[DecodeEvent, None, None]:
            return play(place.server, place.dialect, body, drafting=drafting, wire=wire)

        turn = Turn(open_turn)
        with self._lock:
            if self._closed:
                raise GenerationFailed("The pair is no longer loaded: load it again.")
            self._turns.add(turn)
        return turn

    def race(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, DecodeEvent]]:
        """Decode several requests one after the other, so that none slows another down.

        Raises:
            RequestError, GenerationFailed: as `stream`, for any of them.
        """
        return _in_order([self.stream(request) for request in requests])

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Each token as text where the server turns tokens into text, else its number."""
        return [self._text_of(token_id) for token_id in token_ids]

    def next_logits(
        self,
        request: GenerationRequest,
        output_ids: Sequence[int],
        candidates: Sequence[int],
    ) -> tuple[float, ...]:
        """A server tells none.

        Raises:
            RequestError: always.
        """
        raise RequestError(
            "A server does not tell its logits: compare with the pair on this machine instead."
        )

    def memory_bytes(self) -> int:
        """Nothing of it is on this machine."""
        return 0

    def close(self) -> None:
        """Cut what still streams and let the connections go."""
        with self._lock:
            self._closed, turns = True, list(self._turns)
        for turn in turns:
            turn.abort(
                GenerationFailed(
                    "The pair was unloaded while it was working: load it and start again."
                )
            )
        for place in (self._target, self._drafter):
            if place is not None:
                place.server.close()

    def _place(self, request: GenerationRequest) -> tuple[Place, bool]:
        """Where a request goes, and whether it is drafted there.

        Raises:
            RequestError: no server does what is asked.
        """
        if request.mode == "ar":
            told = self._target.capabilities
            if told.drafts and not told.can_switch_drafts:
                raise RequestError(
                    f"{told.host} drafts in every request and cannot decode plainly: serve the "
                    "target without a drafter at another address for that (`dflash-app serve-plan "
                    "PAIR --ar` prints how)."
                )
            return self._target, False
        if self._drafter is None:
            raise RequestError("This pair has no server that drafts: choose mode 'ar'.")
        if request.block_size is not None and request.block_size != self._block_size:
            fixed = f"blocks of {self._block_size}" if self._block_size else "blocks of its own"
            raise RequestError(
                f"{self._drafter.server.host} drafts {fixed}, which a request cannot change: leave "
                "the block size at its default."
            )
        return self._drafter, True

    def _text_of(self, token_id: int) -> str:
        if token_id not in self._texts:
            place = self._drafter or self._target
            text = None
            if place.capabilities.tells_token_ids and not self._closed:
                asked = {"model": place.model.name, "tokens": [token_id]}
                answer = place.server.ask("/detokenize", at_root=True, body=asked).object()
                text = answer.get("prompt")
            self._texts[token_id] = text if isinstance(text, str) else f"[{token_id}]"
        return self._texts[token_id]


def _in_order(turns: Sequence[Turn]) -> Iterator[tuple[int, DecodeEvent]]:
    for lane, turn in enumerate(turns):
        with closing(turn):
            for event in turn:
                yield lane, event
