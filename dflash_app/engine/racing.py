"""Lanes of one pair, or of several that share a thread, as one job under the fair clock.

Lanes on servers run one after the other, behind those of this machine.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol, cast, runtime_checkable

from dflash_app.engine.fair_clock import Stopwatch, interleave
from dflash_app.engine.protocol import LoadedPair, on_server
from dflash_app.engine.worker import Job, Worker
from dflash_app.errors import RequestError
from dflash_app.events import DecodeEvent
from dflash_app.request import GenerationRequest

Entry = tuple[Stopwatch, Callable[[Job], Iterator[DecodeEvent]]]
"""A lane's clock, standing still, and what makes its events on the worker's thread."""
Lane = tuple[LoadedPair, GenerationRequest]


@runtime_checkable
class Entrant(Protocol):
    """A pair whose thread other pairs may share, so that their lanes can race; not every one can.

    Attributes:
        worker: the thread that owns the device.
    """

    @property
    def worker(self) -> Worker: ...

    def enter(self, requests: Sequence[GenerationRequest]) -> list[Entry]:
        """Check the requests of one race, here and now; nothing of an earlier turn is reused.

        Raises:
            RequestError: one is refused.
        """


def race_lanes(lanes: Sequence[Lane]) -> Iterator[tuple[int, DecodeEvent]]:
    """Decode lanes side by side: they take turns, and a clock runs only while its lane does.

    No lane decodes before all prompts are read, and each reads all of its own: none starts warmer
    than another. An error in one lane ends the race.

    Args:
        lanes: each a loaded pair and a request; pairs beside the first were loaded on its thread
            (`protocol.BesideLoader`), or are on servers.

    Yields:
        (lane, event): its index, and what happened to it.

    Raises:
        RequestError: for any of the requests, or the pairs do not share a thread.
        GenerationFailed: while iterating.
    """
    pairs = {id(pair): pair for pair, _ in lanes}
    if len(pairs) == 1:
        return _race_here(lanes)
    places = [id(pair) if on_server(pair) else None for pair, _ in lanes]
    order = sorted(dict.fromkeys(places), key=lambda place: place is not None)
    groups = [[index for index, each in enumerate(places) if each == place] for place in order]
    races = [_race_here([lanes[index] for index in group]) for group in groups]
    return _one_after_the_other(list(zip(groups, races, strict=True)))


def _one_after_the_other(
    races: Sequence[tuple[Sequence[int], Iterator[tuple[int, DecodeEvent]]]],
) -> Iterator[tuple[int, DecodeEvent]]:
    """Races of a few lanes each, their lanes numbered as in the whole."""
    try:
        for group, events in races:
            for lane, event in events:
                yield group[lane], event
    finally:
        for _, events in races:
            cast("Generator[tuple[int, DecodeEvent]]", events).close()


def _race_here(lanes: Sequence[Lane]) -> Iterator[tuple[int, DecodeEvent]]:
    """Lanes of one pair, or of pairs that share a thread."""
    pairs = list({id(pair): pair for pair, _ in lanes}.values())
    if len(pairs) == 1 and not isinstance(pairs[0], Entrant):
        return pairs[0].race([request for _, request in lanes])
    entrants = [pair for pair in pairs if isinstance(pair, Entrant)]
    worker = entrants[0].worker if entrants else None
    if worker is None or [each.worker for each in entrants] != [worker] * len(pairs):
        names = ", ".join(dict.fromkeys(pair.name for pair in pairs))
        raise RequestError(
            f"These pairs cannot race, as they do not decode on one thread: {names}; choose lanes "
            "of one pair."
        )
    entries: dict[int, Entry] = {}
    for entrant in entrants:
        mine = [index for index, (pair, _) in enumerate(lanes) if pair is entrant]
        entries |= zip(mine, entrant.enter([lanes[index][1] for index in mine]), strict=True)
    clocks = [entries[index][0] for index in range(len(lanes))]

    def produce(job: Job) -> Iterator[tuple[int, DecodeEvent]]:
        return interleave([entries[index][1](job) for index in range(len(lanes))], clocks)

    return worker.stream(produce)
