"""The connection of one request: when it was first used, and how another thread cuts it."""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any

_BEFORE_SENDING = {
    "connection.connect_tcp.complete",
    "connection.retry.started",
    "connection.start_tls.complete",
    "http11.send_request_headers.started",
}


class Cut(Exception):
    """The connection was cut from this side."""


class Wire:
    """The connection of one request, which any thread may cut.

    Attributes:
        sent_s: on `time.perf_counter`, when the request's first byte was sent; connecting and a
            TLS handshake lie before it.
        cut: `abort` was called, or the time was up.
    """

    def __init__(self, limit_s: float | None = None) -> None:
        """Nothing is connected yet.

        Args:
            limit_s: after which it is cut, counted from the request's first byte.
        """
        self.sent_s = time.perf_counter()
        self.cut = False
        self._limit_s = limit_s
        self._timer: Timer | None = None
        self._socket: socket.socket | None = None

    def abort(self) -> None:
        """Close the connection for both sides; a reader that waits wakes up."""
        self.cut = True
        if self._socket is not None:
            with suppress(OSError):
                # Not SSLSocket's own, which takes its state from under the reader.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @contextmanager
    def timed(self, limit_s: float | None = None) -> Iterator[None]:
        """Cut it where it is in use after the time that is given here, or else at the beginning."""
        if limit_s is not None:
            self._start_timer(limit_s)
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow the request; httpcore calls it (httpx: request extensions, "trace")."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.cut:
                info["return_value"].close()  # nobody else knows of it yet
        elif event == "http11.send_request_headers.started":
            self.sent_s = time.perf_counter()
            if self._limit_s is not None:
                self._start_timer(self._limit_s)
        if self.cut and event in _BEFORE_SENDING:
            raise Cut

    def _start_timer(self, limit_s: float) -> None:
        self._timer = Timer(limit_s, self.abort)
        self._timer.daemon = True
        self._timer.start()
