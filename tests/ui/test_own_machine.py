"""A site whose name leads to this machine is not this machine's page."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dflash_app.ui.own_machine import OnlyOwnNames, is_own_name


def ask(host: str, *, kind: str = "http", shared: bool = False) -> list[dict[str, Any]]:
    """What a request by that name is answered with."""
    sent: list[dict[str, Any]] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "the page"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "headers": [(b"host", host.encode())]}
    with ThreadPoolExecutor(
        1
    ) as aside:  # a browser test before may have left its loop in this thread
        aside.submit(asyncio.run, OnlyOwnNames(page, lambda: shared)(scope, None, send)).result()
    return sent


@pytest.mark.parametrize(
    "host",
    ["localhost:7860", "127.0.0.1", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST", "127.8.0.1"],
)
def test_this_machines_own_names_reach_the_page(host: str) -> None:
    assert is_own_name(host)
    assert ask(host) == [{"type": "the page"}]


@pytest.mark.parametrize(
    "host",
    ["evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.7", ""],
)
def test_another_name_is_refused_with_the_cure(host: str) -> None:
    start, body = ask(host)
    assert start["status"] == 403
    assert b"DFLASH_APP_LOCAL_FOLDERS=0" in body["body"]
    assert ask(host, kind="websocket")[0]["type"] == "websocket.close"


def test_a_page_that_gradio_shares_answers_to_the_name_that_it_gets() -> None:
    assert ask("abc.gradio.live", shared=True) == [{"type": "the page"}]


def test_what_is_no_request_passes() -> None:
    assert ask("evil.example", kind="lifespan") == [{"type": "the page"}]
