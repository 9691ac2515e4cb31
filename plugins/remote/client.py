"""One server over HTTP: small questions, and replies that stream.

Redirects are never followed, so that prompts and keys go to the address that was typed. Only
connecting is tried again, with back-off: a request that was sent may be at work already. Every
request has a connection of its own, so that closing it tells the server, which then stops.

A server is nobody's promise: what it sends is taken as it comes, never decompressed, and has a
limit; a short answer has one in time, too. No cookie is kept.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import httpx

from dflash_app.errors import DFlashAppError, RequestError

from . import faults
from .keys import ANY_SERVER, authorization
from .sse import parse
from .wire import Cut, Wire

CONNECT_S = 5.0
CONNECT_RETRIES = 2
READ_S = 300.0
"""Longest silence of a server while it replies: a long prompt in a queue takes its time."""
ASK_S = 10.0
"""Longest silence where a short answer is due; twice that ends it in any case."""

MAX_ANSWER_BYTES = 8 * 2**20
MAX_TOKEN_BYTES = 4096
"""Of a reply, for each token that was asked for: a chunk with all that engines add has some 700."""
_END_S = 0.25
_MAX_END_BYTES = 65_536
_MAX_ERROR_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered to a small question; `fault` is its error where it was no success."""

    status: int
    body: bytes
    fault: DFlashAppError | None = None

    def json(self) -> Any:
        """The value in the body; None where it is no JSON or no success."""
        if self.status != 200:
            return None
        with suppress(ValueError):
            return parse(self.body)
        return None

    def object(self) -> dict[str, Any]:
        """The JSON object in the body; empty where there is none."""
        found = self.json()
        return found if isinstance(found, dict) else {}


class Server:
    """A server by its base address; any number of threads may use it at once."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        variable: str = ANY_SERVER,
        read_s: float = READ_S,
        ask_s: float = ASK_S,
        retries: int = CONNECT_RETRIES,
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: base address, to which `/chat/completions` belongs; without credentials.
            key: see `keys`.
            variable: where the key is set, for what errors say.
            read_s: longest silence of a reply.
            ask_s: longest silence where a short answer is due, and half of what it may take.
            retries: of connecting.

        Raises:
            RequestError: the key cannot be sent, or the address names no machine.
        """
        self.url = _checked(url)
        self.host = urlsplit(self.url).netloc.rpartition("@")[2]
        self.root = self.url.removesuffix("/v1")
        self._key, self._variable = key, variable
        self._read_s, self._ask_s = read_s, ask_s
        self._connect_s = min(CONNECT_S, ask_s)
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(
                retries=retries,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            ),
            headers={"accept-encoding": "identity", **authorization(key)},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            timeout=httpx.Timeout(ask_s, connect=self._connect_s),
        )

    def close(self) -> None:
        """Let go of what the client holds; replies that still stream end with an error."""
        self._client.close()

    def ask(self, path: str, *, at_root: bool = False, body: object | None = None) -> Answer:
        """Put a small question: GET, or POST where there is a body.

        Args:
            path: such as "/models".
            at_root: beside the base address, not below it: where engines have their own routes.
            body: sent as JSON.

        Raises:
            ServerError: no answer came, or it is too long or too slow. Any status is an answer.
        """
        url = (self.root if at_root else self.url) + path
        method, wire = "GET" if body is None else "POST", Wire(2 * self._ask_s)
        traced = {"trace": wire.trace}
        try:
            with (
                self._translated(wire, self._ask_s),
                wire.timed(),
                self._client.stream(method, url, json=body, extensions=traced) as got,
            ):
                text = self._read(got, MAX_ANSWER_BYTES)
        except Cut:
            raise faults.too_slow(self.host, 2 * self._ask_s) from None
        good = got.status_code == 200
        return Answer(got.status_code, text, None if good else self._of_status(got, text))

    @contextmanager
    def reply(self, body: Mapping[str, Any], wire: Wire) -> Iterator[Iterator[bytes]]:
        """Send a chat and open its reply.

        Args:
            body: of the request.
            wire: of this request alone.

        Yields:
            The reply's bytes as they come. Its end is read behind whoever has enough: to close
            before it is to reset the connection.

        Raises:
            ServerError, RequestError: it is refused, endless, or the connection breaks.
            Cut: `wire.abort` was called.
        """
        came = 0
        most = 2 * MAX_ANSWER_BYTES + MAX_TOKEN_BYTES * int(body.get("max_tokens") or 0)

        def pieces(response: httpx.Response) -> Iterator[bytes]:
            nonlocal came
            for piece in response.iter_raw():
                came += len(piece)
                if came > most:
                    raise faults.unreadable(self.host, f"more than {most >> 20} MB in one reply")
                yield piece

        with self._translated(wire, self._read_s, lambda: came > 0):
            request = self._client.build_request(
                "POST",
                f"{self.url}/chat/completions",
                json=body,
                headers={"accept": "text/event-stream"},
                timeout=httpx.Timeout(self._read_s, connect=self._connect_s),
                extensions={"trace": wire.trace},
            )
            response = self._client.send(request, stream=True)
            try:
                self._check_streams(response)
                text = pieces(response)
                yield text
                _read_end(text, wire)
            finally:
                response.close()

    def refusal(self, error: Any) -> DFlashAppError:
        """The error that a reply's own `error` stands for."""
        return faults.of_error_body(self.host, error, self._key)

    def _check_streams(self, response: httpx.Response) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code == 200 and kind == "text/event-stream":
            self._check_plain(response)
            return
        text = self._read(response, _MAX_ERROR_BYTES, cut=True)
        if response.status_code != 200:
            raise self._of_status(response, text)
        with suppress(ValueError):
            found = parse(text)
            if isinstance(found, dict) and (found.get("error") or found.get("object") == "error"):
                raise self.refusal(found.get("error") or found)
        raise faults.unreadable(self.host, f"{kind or 'no kind of content'} instead of a stream")

    def _of_status(self, response: httpx.Response, body: bytes) -> DFlashAppError:
        return faults.of_status(self.host, response, body, key=self._key, variable=self._variable)

    def _check_plain(self, response: httpx.Response) -> None:
        """Compressed, a few bytes may be gigabytes; it was asked for nothing of the kind."""
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise faults.unreadable(self.host, "a compressed answer, which was not asked for")

    def _read(self, response: httpx.Response, max_bytes: int, *, cut: bool = False) -> bytes:
        self._check_plain(response)
        found = bytearray()
        for piece in response.iter_raw():
            found += piece
            if len(found) > max_bytes:
                if cut:
                    break
                raise faults.unreadable(self.host, f"more than {max_bytes >> 20} MB")
        return bytes(found)

    @contextmanager
    def _translated(
        self, wire: Wire, read_s: float, replying: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.StreamError) as error:
            if wire.cut and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                raise Cut from None
            raise faults.of_transport(
                self.host, error, read_s=read_s, replying=replying()
            ) from error
        except RuntimeError:
            if not self._client.is_closed:
                raise
            if wire.cut:
                raise Cut from None
            raise faults.given_up(self.host) from None


def _read_end(text: Iterator[bytes], wire: Wire) -> None:
    """Read what is behind the last event, which is next to nothing."""
    taken = 0
    with suppress(httpx.TransportError, httpx.StreamError, faults.ServerError), wire.timed(_END_S):
        for piece in text:
            taken += len(piece)
            if taken > _MAX_END_BYTES:
                return


def _checked(url: str) -> str:
    """The address without "/" at its end.

    Raises:
        RequestError: no machine can have its name.
    """
    try:
        httpx.URL(url).host.encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        raise RequestError(
            "No machine can have the name in this address: correct it, as in http://gpu-box:8000/v1."
        ) from None
    return url.rstrip("/")
