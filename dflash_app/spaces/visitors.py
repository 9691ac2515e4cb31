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

from dflash_app.spaces.allowance import Allowance

COOKIE = "dflash-visitor"
MAX_AGE_S = 180 * 24 * 3600
_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
"""As `secrets.token_urlsafe(32)` makes them: 256 random bits."""
_HOST = "__Host-"
"""Before a cookie's name it makes browsers refuse one that another host or plain HTTP has set."""


_SESSION = "session-"


class Visitors:
    """Tells visitors apart; one for each served page."""

    def __init__(self, max_per_hour: int | None = None) -> None:
        """Nobody has come.

        Args:
            max_per_hour: runs that one of them may begin; None sets no limit.
        """
        self._salt = secrets.token_bytes(32)
        self._allowance = None if max_per_hour is None else Allowance(max_per_hour)

    def owner(
        self, cookies: Mapping[str, str], session: str | None, *, secure: bool = False
    ) -> str:
        """Whose chats and runs a request may see; nothing in it can be sent back as a key.

        Args:
            cookies: of the request.
            session: Gradio's, of one load of the page.
            secure: the browser came by HTTPS, see `is_secure`.
        """
        key = find_key(cookies, secure=secure)
        if key is not None:
            return "visitor-" + hashlib.sha256(key.encode()).hexdigest()[:32]
        # Its hash is salted: with the name of a session alone nobody can make up its owner.
        return _SESSION + self._hash(session or secrets.token_hex(16))

    def admit(self, owner: str, headers: Mapping[str, str], host: str | None) -> None:
        """Count a run that a visitor begins.

        Programs keep no cookies, and may open a session for each request: they are counted by the
        address that they come from, of which a hash stays in memory for an hour.

        Args:
            owner: from `owner`.
            headers: of the request; a proxy names the address there.
            host: that the request comes from, where known.

        Raises:
            QueueFull: it would be one too many in an hour; says when to come back.
        """
        if self._allowance is None:
            return
        address = headers.get("x-forwarded-for", "").split(",")[0].strip() or host
        if owner.startswith(_SESSION) and address:
            owner = "address-" + self._hash(address)
        self._allowance.take(owner)

    def _hash(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=self._salt, digest_size=16).hexdigest()


def find_key(cookies: Mapping[str, str], *, secure: bool = False) -> str | None:
    """The visitor's key, where there is one of the form that we give.

    Args:
        cookies: of the request.
        secure: the browser came by HTTPS: then only a cookie counts that nobody else can have set.
    """
    value = cookies.get(_HOST + COOKIE if secure else COOKIE)
    return value if isinstance(value, str) and _KEY.fullmatch(value) else None


def is_secure(forwarded: str, scheme: str) -> bool:
    """Whether the browser came by HTTPS.

    Args:
        forwarded: what the proxy before a Space says, in `X-Forwarded-Proto`.
        scheme: of the request as it came to us.
    """
    return "https" in (forwarded.split(",", maxsplit=1)[0].strip(), scheme)


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
        secure = _is_secure(scope)
        if not _loads_page(scope) or find_key(_cookies_of(scope), secure=secure) is not None:
            await self._app(scope, receive, send)
            return
        cookie = _new_cookie(secure=secure)

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
    forwarded = dict(scope["headers"]).get(b"x-forwarded-proto", b"").decode("latin-1")
    return is_secure(forwarded, str(scope.get("scheme")))


def _new_cookie(*, secure: bool) -> tuple[bytes, bytes]:
    key = secrets.token_urlsafe(32)
    rules = f"Max-Age={MAX_AGE_S}; Path=/; HttpOnly; "
    if secure:
        text = f"{_HOST}{COOKIE}={key}; {rules}Secure; SameSite=None; Partitioned"
    else:
        text = f"{COOKIE}={key}; {rules}SameSite=Lax"
    return b"set-cookie", text.encode("latin-1")
