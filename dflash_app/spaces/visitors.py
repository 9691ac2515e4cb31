"""Who a visitor of a public page is: the holder of an unguessable key in a cookie of the browser.

The cookie is for this site alone, is not readable by scripts, and works inside the frame in which
huggingface.co shows a Space (in a jar of that site). A browser that keeps none, and a program, is a
new visitor with each of its sessions.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

COOKIE = "dflash-visitor"
MAX_AGE_S = 180 * 24 * 3600
_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
"""As `secrets.token_urlsafe(32)` makes them: 256 random bits."""
_HOST = "__Host-"
"""Before a cookie's name it makes browsers refuse one that another host or plain HTTP has set."""


class Visitors:
    """Tells visitors apart; one for each served page."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(32)

    def owner(self, cookies: Mapping[str, str], session: str | None) -> str:
        """Whose chats and runs a request may see; nothing in it can be sent back as a key.

        Args:
            cookies: of the request.
            session: Gradio's, of one load of the page.
        """
        key = find_key(cookies)
        if key is not None:
            return "visitor-" + hashlib.sha256(key.encode()).hexdigest()[:32]
        # Its hash is salted: with the name of a session alone nobody can make up its owner.
        named = (session or secrets.token_hex(16)).encode()
        return "session-" + hashlib.blake2b(named, key=self._salt, digest_size=16).hexdigest()


def find_key(cookies: Mapping[str, str]) -> str | None:
    """The visitor's key, where there is one of the form that we give."""
    for name in (_HOST + COOKIE, COOKIE):
        value = cookies.get(name)
        if isinstance(value, str) and _KEY.fullmatch(value):
            return value
    return None


class GiveKeys:
    """ASGI middleware: who loads the page without a key gets one, and only the page may use it.

    Gradio lets every other site ask with the browser's cookies and read the answer. Inside
    huggingface.co all Spaces share one jar, so that another Space could ask as our visitor.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on, and add the cookie to the answer where it is the page itself."""
        if _is_from_elsewhere(scope):
            kept = [each for each in scope["headers"] if each[0] != b"cookie"]
            await self._app({**scope, "headers": kept}, receive, send)
            return
        if not _loads_page(scope) or find_key(_cookies_of(scope)) is not None:
            await self._app(scope, receive, send)
            return
        cookie = _new_cookie(secure=_is_secure(scope))

        async def send_with_cookie(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), cookie]}
            await send(message)

        await self._app(scope, receive, send_with_cookie)


def _loads_page(scope: Any) -> bool:
    asked: bool = scope["type"] == "http" and scope["method"] == "GET"
    path: str = scope.get("path", "")
    return asked and path in ("", "/")


def _is_from_elsewhere(scope: Any) -> bool:
    """Whether a script or a form of another site asks; browsers say so over HTTPS."""
    if scope["type"] not in ("http", "websocket") or _loads_page(scope):
        return False
    site = dict(scope["headers"]).get(b"sec-fetch-site", b"")
    return site in (b"cross-site", b"same-site")


def _cookies_of(scope: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                parsed = SimpleCookie(value.decode("latin-1"))
            except CookieError:
                continue
            found |= {key: morsel.value for key, morsel in parsed.items()}
    return found


def _is_secure(scope: Any) -> bool:
    """Whether the browser came by HTTPS; the proxy before a Space says so."""
    forwarded = dict(scope["headers"]).get(b"x-forwarded-proto", b"").split(b",")[0].strip()
    return b"https" in (forwarded, str(scope.get("scheme")).encode())


def _new_cookie(*, secure: bool) -> tuple[bytes, bytes]:
    key = secrets.token_urlsafe(32)
    rules = f"Max-Age={MAX_AGE_S}; Path=/; HttpOnly; "
    if secure:
        text = f"{_HOST}{COOKIE}={key}; {rules}Secure; SameSite=None; Partitioned"
    else:
        text = f"{COOKIE}={key}; {rules}SameSite=Lax"
    return b"set-cookie", text.encode("latin-1")
