"""A page of one machine answers to that machine's own names only."""

import ipaddress
from collections.abc import Callable
from typing import Any

_REFUSAL = (
    b"This page answers to localhost and 127.0.0.1 only. To reach it by another name, through a "
    b"proxy of yours, start it with DFLASH_APP_LOCAL_FOLDERS=0."
)


class OnlyOwnNames:
    """Refuses what asks for the page by another name than this machine's own (ASGI middleware).

    A site may let its own name lead to 127.0.0.1; its scripts would then be the page's own to the
    browser, and could delete and name folders as the user can.
    """

    def __init__(self, app: Any, shared: Callable[[], bool]) -> None:
        """Stand before an app.

        Args:
            app: what answers.
            shared: whether Gradio shares the page by a name of its own, asked at every request.
        """
        self._app = app
        self._shared = shared

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on, or answer it with the cure."""
        asked = scope["type"] in ("http", "websocket")
        if not asked or is_own_name(_host_of(scope)) or self._shared():
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})


def is_own_name(host: str) -> bool:
    """Whether a Host header ("localhost:7860", "[::1]:7860") names this machine to itself."""
    name = host.strip().lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _host_of(scope: Any) -> str:
    host: bytes = dict(scope["headers"]).get(b"host", b"")
    return host.decode("latin-1")
