"""What goes wrong between here and a server, as one sentence that names the cure."""

import json
import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from dflash_app.errors import DFlashAppError, GenerationFailed, PromptTooLong, RequestError

from .sse import parse

_MOST_SAID = 300
"""Characters of a server's own words that are shown."""

_NO_ROOM = re.compile(
    r"context.{0,20}(length|size|window)|max_model_len|exceed_context|prompt is too long"
    r"|longer than the model|max_seq_len|maximum.{0,20}tokens",
    re.IGNORECASE,
)
"""How vLLM, SGLang and llama.cpp say that a prompt, or prompt and output limit, do not fit."""


class ServerError(GenerationFailed):
    """A server is not there, or does not answer as it should."""


class NothingThere(ServerError):
    """The address leads nowhere on that server, or the model does."""


def of_transport(
    host: str, error: Exception, *, read_s: float, replying: bool = False
) -> ServerError:
    """The sentence for a connection that failed.

    Args:
        host: of the server.
        error: what httpx raised.
        read_s: how long an answer was waited for.
        replying: some of the answer had come.
    """
    if isinstance(error, httpx.ConnectTimeout):
        return ServerError(f"{host} cannot be reached: check the address and the network.")
    if isinstance(error, httpx.ConnectError):
        return ServerError(_of_connect(host, error))
    if isinstance(error, httpx.TimeoutException):
        return ServerError(
            f"{host} was silent for {read_s:g} seconds: it may be overloaded, so try again later."
        )
    if replying:
        return broken_off(host)
    return ServerError(
        f"{host} closed the connection without an answer: look at its log, and whether the "
        "address begins with http or https as it should."
    )


def broken_off(host: str) -> ServerError:
    """The sentence for a reply that lacks its end."""
    return ServerError(
        f"{host} closed the connection in mid-reply, and what came is kept: look at its log and "
        "try again."
    )


def too_slow(host: str, seconds: float) -> ServerError:
    """The sentence for a short answer that takes long."""
    return ServerError(
        f"{host} did not finish its answer in {seconds:g} seconds: it may be overloaded, so try "
        "again later."
    )


def given_up(host: str) -> ServerError:
    """The sentence for a request that comes when the connections were let go of."""
    return ServerError(f"The connection to {host} was given up: load the pair again.")


def unreadable(host: str, what: str) -> ServerError:
    """The sentence for an answer that is not as the protocol has it; `what` says how."""
    return ServerError(
        f"{host} sent {what}: check that the address is that of an OpenAI-compatible server."
    )


def of_status(
    host: str,
    response: httpx.Response,
    body: bytes,
    *,
    key: str | None,
    variable: str,
) -> DFlashAppError:
    """The error for an answer that is no success.

    Args:
        host: of the server.
        response: its status and headers.
        body: what it says, maybe cut.
        key: what was sent as key, which must not come back in the message.
        variable: where the key is set.
    """
    status, headers = response.status_code, response.headers
    told = said(body, key)
    if status in (400, 413, 422):
        return refused(host, told)
    if 300 <= status < 400:
        sentence = (
            f"redirects {_to(headers)}, where neither prompts nor keys are sent: use the final "
            "address"
        )
    elif status in (401, 403):
        had = "refuses the key" if key else "asks for a key"
        sentence = f"{had} ({status}): set the right one as {variable}"
    elif status in (404, 405):
        return NothingThere(
            f"{host} has nothing at this address ({told}): use its base address, such as "
            "http://gpu-box:8000/v1."
        )
    elif status == 429:
        sentence = f"takes no more requests now: {_when(headers)}"
    elif status == 503:
        sentence = f"is not ready ({told}): try again in a moment"
    else:
        sentence = f"failed with status {status} ({told}): look at its log"
    return ServerError(f"{host} {sentence}.")


def of_error_body(host: str, error: Any, key: str | None) -> DFlashAppError:
    """The error that an answer holds though its status is 200.

    Args:
        host: of the server.
        error: the value of `error`, or the whole object where that is of kind "error".
        key: see `of_status`.
    """
    told = _message(error, key)
    code = error.get("code") if isinstance(error, dict) else None
    if code in (400, 413, 422, "400", "BAD_REQUEST"):
        return refused(host, told)
    return ServerError(f"{host} failed ({told}): look at its log.")


def refused(host: str, told: str) -> RequestError:
    """The error for a request that a server does not take, in its own words."""
    if _NO_ROOM.search(told):
        return PromptTooLong(
            f"The conversation and the output limit do not fit the context of {host} ({told}): "
            "shorten the conversation or lower the limit."
        )
    return RequestError(f"{host} refuses this request ({told}): change it accordingly.")


def said(body: bytes, key: str | None) -> str:
    """The message in an error's body, on one line, short, and without the key."""
    try:
        found = parse(body)
    except ValueError:
        return _shown(body.decode("utf-8", "replace"), key)
    if isinstance(found, dict):
        found = found.get("error", found.get("detail", found))
    return _message(found, key)


def _message(error: Any, key: str | None) -> str:
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return _shown(error["message"], key)
    return _shown(error if isinstance(error, str) else json.dumps(error), key)


def _shown(text: str, key: str | None) -> str:
    if key:
        for secret in {key, key.removeprefix("Basic ").removeprefix("Bearer ").strip()}:
            text = text.replace(secret, "[key]") if secret else text
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = line[:_MOST_SAID].rstrip(".:;, ")
    return line or "it does not say why"


def _of_connect(host: str, error: httpx.ConnectError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return (
                f"No safe connection to {host} ({_shown(str(cause), None)}): use the name that "
                "its certificate is for, or http where it has none."
            )
        cause = cause.__cause__ or cause.__context__
    if re.search(r"name|getaddrinfo|nodename", str(error), re.IGNORECASE):
        return f"No machine is named as in {host}: correct the address."
    return f"No server answers at {host}: start it, or wait, as it may still be loading."


def _to(headers: Mapping[str, str]) -> str:
    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        host = None
    return f"to {_shown(host, None)}" if host else "to another address"


def _when(headers: Mapping[str, str]) -> str:
    wait = headers.get("retry-after", "").strip()
    if wait.isdecimal() and len(wait) < 8:
        return f"try again in {int(wait)} s"
    return f"try again after {_shown(wait, None)}" if wait else "try again in a moment"
