"""Server-sent events out of bytes: the payloads of `data`, whole and one by one.

httpx-sse reads lines of any length and turns bytes into text before they are whole; a reply is
nobody's promise, so here a line has a limit and JSON is read from its bytes.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

MAX_EVENT_BYTES = 8 * 2**20
"""Of one event: vLLM's first one carries every token of the prompt."""


class TooLong(ValueError):
    """An event is longer than `MAX_EVENT_BYTES`."""


def payloads(pieces: Iterable[bytes], max_bytes: int = MAX_EVENT_BYTES) -> Iterator[bytes]:
    """The payload of each event.

    Args:
        pieces: the body as it comes, cut anywhere.
        max_bytes: of one event.

    Yields:
        What its `data` fields say, joined by line feeds. An `error` field, in which llama.cpp says
        that it failed, comes as the JSON object `{"error": ...}`. An event that is not whole when
        the body ends is dropped, as the standard says.

    Raises:
        TooLong: an event is longer than that.
    """
    data: list[bytes] = []
    held: list[bytes] = []  # of the line that is not whole: joined once, or it would take hours
    held_size = size = 0
    for piece in _with_line_feeds(pieces):
        begun, *lines = piece.split(b"\n")
        held.append(begun)
        held_size += len(begun)
        if held_size > max_bytes:
            raise TooLong
        if not lines:
            continue
        lines.insert(0, b"".join(held))
        held = [lines.pop()]
        held_size = len(held[0])
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
                size += len(line)
                if size > max_bytes:
                    raise TooLong
            elif line.startswith(b"error:"):
                yield b'{"error":' + line[6:] + b"}"
            elif not line and data:
                yield data[0] if len(data) == 1 else b"\n".join(data)
                data.clear()
                size = 0


def _with_line_feeds(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same with every line end a line feed: CR and CR LF are line ends too."""
    pending = False  # a CR was last: a LF may follow
    for piece in pieces:
        if not pending and b"\r" not in piece:
            yield piece
            continue
        joined = b"\r" + piece if pending else piece
        pending = joined.endswith(b"\r")
        yield (joined[:-1] if pending else joined).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if pending:
        yield b"\n"


def parse(text: bytes) -> Any:
    """The JSON value of a payload or a body.

    Raises:
        ValueError: it is none, or lists within lists without end.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
