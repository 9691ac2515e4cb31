"""Asks the servers of the registry how they are: all at once, and nobody's page waits for them."""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from dflash_app.errors import DFlashAppError
from dflash_app.registry.pair import Pair

from .capabilities import Capabilities
from .keys import find_key, variable_of
from .probe import probe

TIMEOUT_S = 3.0
MAX_AT_ONCE = 16
FRESH_S = 5.0
"""An answer of the last seconds serves again: many may open the tab of a public page."""

Answer = Capabilities | str
"""What a server tells of itself, or the sentence that says why it tells nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """One server of a pair.

    Attributes:
        pair: its name, which the server's key goes by.
        role: what the pair decodes there; "dflash" also where it is the pair's only server.
        url: base address.
        model: the name that it serves.
    """

    pair: str
    role: Literal["dflash", "plain"]
    url: str
    model: str


def places_of(pair: Pair) -> list[Place]:
    """The servers of a pair, the one that drafts first; none of a local pair."""
    refs = [("dflash", pair.drafter), ("plain", pair.target)]
    if pair.drafter is not None and pair.drafter.server == pair.target.server:
        refs = refs[:1]
    return [
        Place(pair.name, "dflash" if role == "dflash" else "plain", ref.server, ref.model or "")
        for role, ref in refs
        if ref is not None and ref.server is not None
    ]


def ask(place: Place) -> Answer:
    """Ask one server; takes a few times `TIMEOUT_S` at most."""
    try:
        return probe(
            place.url, find_key(place.pair), variable=variable_of(place.pair), timeout_s=TIMEOUT_S
        )
    except DFlashAppError as error:
        return str(error)


class Standings:
    """The newest answer of each server. Any thread may call it."""

    def __init__(self) -> None:
        """Nobody was asked."""
        self._answers: dict[Place, tuple[float, Answer]] = {}
        self._lock = Lock()

    def of(self, place: Place) -> Answer | None:
        """The newest answer, None before the first."""
        with self._lock:
            told = self._answers.get(place)
        return told[1] if told else None

    def ask(self, places: Iterable[Place]) -> Iterator[Place]:
        """Ask servers at once; each is yielded when it has answered, or has failed to."""
        due = [place for place in dict.fromkeys(places) if not self._is_fresh(place)]
        if not due:
            return
        # Not `with`: a browser that has gone must not wait here for a server that is silent.
        asking = ThreadPoolExecutor(min(len(due), MAX_AT_ONCE), "servers")
        try:
            running = {asking.submit(ask, place): place for place in due}
            for done in as_completed(running):
                with self._lock:
                    self._answers[running[done]] = time.monotonic(), done.result()
                yield running[done]
        finally:
            asking.shutdown(wait=False, cancel_futures=True)

    def forget(self) -> None:
        """Let the next `ask` reach every server."""
        with self._lock:
            self._answers = {place: (0.0, told) for place, (_, told) in self._answers.items()}

    def _is_fresh(self, place: Place) -> bool:
        with self._lock:
            told = self._answers.get(place)
        return told is not None and time.monotonic() - told[0] < FRESH_S
