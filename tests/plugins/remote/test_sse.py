"""Events come out whole however the bytes were cut, and no line is read without end."""

import json
from collections.abc import Iterator

import pytest
from dflash_plugins.remote.sse import TooLong, payloads

BODY = (
    'data: {"text": "héllo 🙂"}\n\n: a ping\n\n'
    "event: x\nid: 1\ndata: one\ndata:two\n\ndata: [DONE]\n\n"
)
WHOLE = ['{"text": "héllo 🙂"}'.encode(), b"one\ntwo", b"[DONE]"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_do_not_depend_on_how_the_body_was_cut(size: int, line_end: str) -> None:
    body = BODY.replace("\n", line_end).encode()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert list(payloads(pieces)) == WHOLE


def test_an_event_that_is_not_whole_is_dropped() -> None:
    assert list(payloads([b"data: 1\n\ndata: 2\n"])) == [b"1"]
    assert list(payloads([b"data: 1\n\ndata: 2"])) == [b"1"]
    assert list(payloads([])) == []


def test_llama_cpp_s_error_field_comes_as_an_error() -> None:
    (payload,) = payloads([b'error: {"code":500,"message":"broken"}\n\n'])
    assert json.loads(payload) == {"error": {"code": 500, "message": "broken"}}


def test_a_line_without_end_is_given_up_at_the_limit() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 100

    with pytest.raises(TooLong):
        list(payloads(endless(), max_bytes=1000))
    assert taken == 11


def test_an_event_of_many_lines_has_the_same_limit() -> None:
    with pytest.raises(TooLong):
        list(payloads([b"data: 0123456789\n"] * 100, max_bytes=1000))
    lines = [b"data: 0123456789\n\n"] * 100
    assert len(list(payloads(lines, max_bytes=1000))) == 100
