"""Gradio opens event loops while it builds a page and leaves them open: a test closes them."""

import asyncio
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def close_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[asyncio.AbstractEventLoop] = []
    open_loop = asyncio.new_event_loop

    def new_event_loop() -> asyncio.AbstractEventLoop:
        made.append(open_loop())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", new_event_loop)
    yield
    if made:
        asyncio.set_event_loop(None)
    for loop in made:
        loop.close()
