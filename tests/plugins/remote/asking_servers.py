"""Pairs on scripted servers, and turns of them."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from dflash_plugins.remote.backend import RemoteBackend
from dflash_plugins.remote.pair import RemotePair

from dflash_app.engine.protocol import LoadOptions
from dflash_app.events import DecodeEvent, Finished, ServerCounts, TextDelta
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.request import GenerationRequest, Message
from tests.plugins.remote.scripted_server import ScriptedServer


def turn(text: str = "What is 17 + 25?", **options: Any) -> GenerationRequest:
    """A request of one question."""
    return GenerationRequest(messages=(Message("user", text),), **options)


def row(
    url: str, model: str, *, drafter: str | None = "", name: str = "gpu-box", **more: Any
) -> Pair:
    """A registry row; the drafter is at the same address, at another, or nowhere (None)."""
    drafts = None if drafter is None else ModelRef(server=drafter or url, model=model)
    return Pair(
        name=name,
        title="A served pair",
        family="qwen3",
        target=ModelRef(server=url, model=model),
        drafter=drafts,
        backends=("remote",),
        **more,
    )


@contextmanager
def served(server: ScriptedServer, model: str = "embedded", **options: Any) -> Iterator[RemotePair]:
    """A pair of one running server."""
    loaded = RemoteBackend().load(row(server.url, model, **options), LoadOptions())
    with closing(loaded):
        yield loaded


def text_of(events: Iterable[DecodeEvent]) -> str:
    """All text."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def counts_of(events: Iterable[DecodeEvent]) -> ServerCounts:
    """What the server said of the run."""
    (found,) = [event for event in events if isinstance(event, ServerCounts)]
    return found


def end_of(events: list[DecodeEvent]) -> Finished:
    """The last event."""
    assert isinstance(events[-1], Finished)
    return events[-1]
