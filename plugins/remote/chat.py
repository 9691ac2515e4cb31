"""One turn on a server: the request out of ours, and its reply as a stream that can be cut."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

from dflash_app.engine.stopping import current_stop
from dflash_app.errors import DFlashAppError, GenerationFailed, RequestError
from dflash_app.events import DecodeEvent, Finished, ServerCounts
from dflash_app.request import GenerationRequest

from . import faults
from .capabilities import ServedModel, say_missing
from .client import Server
from .dialect import Dialect
from .reply import Reply
from .sse import TooLong, parse, payloads
from .wire import Cut, Wire

_LOOK_S = 0.05
"""How often a stop is looked for while the server is silent."""


class Turn(Iterator[DecodeEvent]):
    """The events of one turn. `close` may be called by any thread and ends it at once."""

    def __init__(self, play: Callable[[Wire], Generator[DecodeEvent, None, None]]) -> None:
        """Nothing is sent before the first `next`.

        Args:
            play: makes the events, on a wire that may be cut.
        """
        self._wire = Wire()
        self._events = play(self._wire)
        self._abort: DFlashAppError | None = None

    def __next__(self) -> DecodeEvent:
        try:
            return next(self._events)
        except Cut:
            if self._abort is not None:
                raise self._abort from None
            raise StopIteration from None

    def close(self) -> None:
        """Cut the connection, so that the server stops working for it."""
        self._wire.abort()
        with suppress(ValueError):  # another thread reads just now: the cut wakes it
            self._events.close()

    def abort(self, error: DFlashAppError) -> None:
        """The same for the owner of the connection: the reader gets `error`."""
        self._abort = error
        self._wire.abort()


def chat_body(
    dialect: Dialect, model: ServedModel, request: GenerationRequest, *, drafting: bool
) -> dict[str, Any]:
    """The body of a chat request.

    Args:
        dialect: of the server.
        model: to ask for.
        request: the turn.
        drafting: False asks for plain decoding where the server can switch.

    Raises:
        RequestError: the server is not known to take what is asked, or the text is no text.
    """
    for message in request.messages:
        _check_text(message.content, "a message")
    for text in request.stop:
        _check_text(text, "a stop text")
    _check_text(request.thinking or "", "the thinking level")
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model.name,
        "messages": [{"role": each.role, "content": each.content} for each in request.messages],
        "stream": True,
        "max_tokens": min(request.max_new_tokens, model.context_length or request.max_new_tokens),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if request.stop:
        body["stop"] = list(request.stop)
    return body | dialect.fields(request, drafting=drafting)


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"Character {error.start + 1} of {what} is half of a surrogate pair, which is no text: "
            "delete it and type it again."
        ) from error


def play(
    server: Server, dialect: Dialect, body: dict[str, Any], *, drafting: bool, wire: Wire
) -> Generator[DecodeEvent, None, None]:
    """Send a chat and give its events.

    Args:
        server: to send it to.
        dialect: of that server.
        body: see `chat_body`.
        drafting: False refuses a run that turns out to have been drafted; True one on a server
            that was started anew without a drafter.
        wire: of this turn.

    Raises:
        RequestError: the server refuses the request.
        GenerationFailed: it fails, or breaks off; what came was given before.
        Cut: `wire` was cut.
    """
    reply, stop = Reply(), current_stop()
    if stop is not None and stop.is_set():
        yield Finished("cancelled", 0.0)
        return
    before = dialect.before()
    _check_drafts(server, dialect, drafting=drafting)
    try:
        with _watched(stop, wire), server.reply(body, wire) as pieces:
            yield from _events(server, reply, pieces, wire)
        elapsed_s = time.perf_counter() - wire.sent_s
    except Cut:
        if stop is None or not stop.is_set():
            raise
        yield Finished("cancelled", time.perf_counter() - wire.sent_s)
        return
    except faults.NothingThere as error:
        raise (_missing(server, str(body["model"])) or error) from None
    if reply.finish_reason is None:
        raise _unfinished(server, reply)
    counts = _counts(server, dialect, reply, before)
    _check_drafts(server, dialect, drafting=drafting)
    if counts is not None:
        yield counts
        if not drafting and counts.num_drafted:
            raise GenerationFailed(
                f"{server.host} drafted though plain decoding was asked for: serve the target "
                "without a drafter at another address (`dflash-app serve-plan PAIR --ar` prints "
                "how) and use that."
            )
    yield Finished(reply.finish_reason, elapsed_s)


def _events(
    server: Server, reply: Reply, pieces: Iterator[bytes], wire: Wire
) -> Generator[DecodeEvent, None, None]:
    try:
        for payload in payloads(pieces):
            if payload == b"[DONE]":
                return
            chunk = parse(payload)
            if "choices" not in chunk and (chunk.get("error") or chunk.get("object") == "error"):
                raise server.refusal(chunk.get("error") or chunk)
            if error := chunk.get("error"):
                raise server.refusal(error)
            yield from reply.take(chunk, time.perf_counter() - wire.sent_s)
    except TooLong as error:
        raise faults.unreadable(server.host, "a chunk of several MB") from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise faults.unreadable(server.host, "a chunk that is none of a chat") from error
    if wire.cut:
        raise Cut
    if reply.reason is None:
        raise faults.broken_off(server.host)


def _check_drafts(server: Server, dialect: Dialect, *, drafting: bool) -> None:
    if drafting and dialect.drafts is False:
        raise GenerationFailed(
            f"{server.host} drafts no longer: start it with its drafter again, or choose mode 'ar'."
        )


def _missing(server: Server, name: str) -> RequestError | None:
    """The error that a model is not served, with those that are; None where that is not so."""
    try:
        names = [card["id"] for card in server.ask("/models").object()["data"]]
    except (faults.ServerError, KeyError, TypeError):
        return None
    return None if name in names else RequestError(say_missing(server.host, name, names))


def _unfinished(server: Server, reply: Reply) -> DFlashAppError:
    if reply.reason is None:
        return faults.broken_off(server.host)
    return GenerationFailed(
        f"{server.host} ended the reply itself ({reply.reason[:40]!r}), and what came is kept: "
        "look at its log and try again."
    )


def _counts(server: Server, dialect: Dialect, reply: Reply, before: Any) -> ServerCounts | None:
    try:
        return dialect.counts(reply, before)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise faults.unreadable(server.host, "counts that cannot be read") from error


@contextmanager
def _watched(stop: Event | None, wire: Wire) -> Iterator[None]:
    """Cut the wire once `stop` is set, even while the reader waits for a silent server."""
    if stop is None:
        yield
        return
    over = Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            if stop.is_set():
                wire.abort()
                return

    watcher = Thread(target=look, name="stop-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
