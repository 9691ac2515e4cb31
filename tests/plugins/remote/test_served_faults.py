"""Whatever a server does wrong ends in one sentence, and what had come is kept."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from dflash_plugins.remote import client
from dflash_plugins.remote.client import Server
from dflash_plugins.remote.wire import Cut, Wire

from dflash_app.errors import DFlashAppError, GenerationFailed, PromptTooLong, RequestError
from dflash_app.events import DecodeEvent
from tests.plugins.remote.asking_servers import served, text_of, turn
from tests.plugins.remote.scripted_server import (
    CHAT,
    STREAM,
    Canned,
    as_llama_cpp,
    as_vllm,
    events,
    fails,
    models,
    says,
    shape,
    stream,
)

BEGUN = events(says("What came"), done=False)


def fail(chat: Canned, kind: type[DFlashAppError] = GenerationFailed) -> tuple[str, str]:
    """(the sentence, the text that had come) of a turn that fails."""
    came: list[DecodeEvent] = []
    with as_vllm(chat) as server, served(server) as loaded:
        with pytest.raises(kind) as caught:
            for event in loaded.stream(turn()):
                came.append(event)
        said = str(caught.value).replace(server.host, "HOST")
        assert len(server.chats()) == 1  # never again after it was sent
    assert said.startswith("HOST") or "fit the context of HOST" in said
    assert said.endswith(".")
    assert "\n" not in said
    return said, text_of(came)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (fails(401), "refuses|asks for a key"),
        (fails(403), "set the right one as DFLASH_APP_KEY_GPU_BOX"),
        (fails(429, headers=(("retry-after", "17"),)), "no more requests now: try again in 17 s"),
        (fails(429, headers=(("retry-after", "Wed, 21 Oct 2026"),)), "again after Wed, 21 Oct"),
        (fails(429), "try again in a moment"),
        (fails(500, {"error": {"message": "CUDA out of memory"}}), "500 .CUDA out of memory."),
        (fails(502, "<html>bad</html>"), "status 502"),
        (fails(503, {"detail": "starting"}), "not ready .starting."),
        (fails(404, {"detail": "Not Found"}), "nothing at this address"),
        (fails(307, headers=(("location", "http://evil.example/"),)), "redirects to evil.example"),
        (fails(302), "redirects to another address"),
    ],
)
def test_a_refusal_is_told_with_its_cure(answer: Canned, said: str) -> None:
    sentence, came = fail(answer)
    assert re.search(said, sentence), sentence
    assert came == ""


def test_what_is_wrong_with_the_request_is_told_in_the_server_s_words() -> None:
    sentence, _ = fail(Canned((shape("vllm_refused.json"),), 400), RequestError)
    assert "refuses this request (temperature must be non-negative, got -3.0" in sentence


@pytest.mark.parametrize("name", ["vllm_too_long.json", "llama_cpp_too_long.json"])
def test_a_prompt_over_the_context_is_told_as_one(name: str) -> None:
    sentence, _ = fail(Canned((shape(name),), 400), PromptTooLong)
    assert "shorten the conversation or lower the limit" in sentence


def test_a_model_that_went_away_is_told_with_those_that_are_there() -> None:
    gone = Canned((shape("vllm_no_model.json"),), 404)
    with as_vllm(gone) as server, served(server) as loaded:
        server.routes["/v1/models"] = models("other")
        with pytest.raises(RequestError, match=r"no model 'embedded': .* it has: 'other'\."):
            list(loaded.stream(turn()))
        server.routes["/v1/models"] = fails(500)
        with pytest.raises(GenerationFailed, match=r"nothing at this address \(The model `nope`"):
            list(loaded.stream(turn()))


def test_a_refusal_inside_a_stream_that_began_well() -> None:
    refused = stream(shape("vllm_refused_in_stream.sse"))
    sentence, _ = fail(refused, RequestError)
    assert "min_p and logit_bias sampling parameters are not yet supported" in sentence
    broken = b'data: {"error": {"message": "engine died", "code": 500}}\n\ndata: [DONE]\n\n'
    sentence, came = fail(stream(BEGUN, broken))
    assert "failed (engine died)" in sentence
    assert came == "What came"


def test_llama_cpp_s_own_error_field() -> None:
    chat = stream(BEGUN, b'error: {"code":500,"message":"slot failed","type":"server_error"}\n\n')
    server = as_llama_cpp(chat)
    with server, served(server, "target.gguf") as loaded, pytest.raises(GenerationFailed) as caught:
        list(loaded.stream(turn()))
    assert "slot failed" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "no such luck", "code": 500}}, "failed .no such luck."),
        ({"object": "error", "message": "older vLLM"}, "failed .older vLLM."),
        ({"choices": []}, "application/json instead of a stream"),
    ],
)
def test_a_success_that_is_none(body: Any, said: str) -> None:
    sentence, _ = fail(Canned((json.dumps(body).encode(),)))
    assert re.search(said, sentence), sentence


def test_another_kind_of_content_is_not_read_as_a_stream() -> None:
    sentence, _ = fail(Canned((b"<html>hello</html>",), kind="text/html"))
    assert "text/html instead of a stream" in sentence


@pytest.mark.parametrize(
    "piece",
    [
        b"data: {not json}\n\n",
        b'data: {"choices": [{"delta": {"content": "\xc3(\xff"}}]}\n\n',
        b"data: [1, 2]\n\n",
        b'data: "text"\n\n',
        b'data: {"choices": [{"delta": {"content": 7}}]}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
    ids=["no JSON", "half UTF-8", "a list", "a text", "a number as text", "deep"],
)
def test_a_chunk_that_is_none_ends_the_run_and_keeps_what_came(piece: bytes) -> None:
    sentence, came = fail(stream(BEGUN, piece, events(says(end="stop"))))
    assert "sent a chunk that is none of a chat" in sentence
    assert came == "What came"


def test_a_chunk_without_end_is_given_up() -> None:
    sentence, came = fail(stream(BEGUN, b"data: ", *[b"x" * 1_000_000] * 9))
    assert "a chunk of several MB" in sentence
    assert came == "What came"


@pytest.mark.parametrize(
    "chat",
    [
        stream(BEGUN, ending="cut"),
        stream(BEGUN, BEGUN[: len(BEGUN) // 2], ending="cut"),
        stream(BEGUN, BEGUN[: len(BEGUN) // 2]),
        stream(BEGUN),
        stream(BEGUN, events()),
    ],
    ids=["cut", "cut in a chunk", "ended in a chunk", "ended", "done without an end"],
)
def test_a_reply_that_lacks_its_end_is_told_so(chat: Canned) -> None:
    sentence, came = fail(chat)
    assert "closed the connection in mid-reply, and what came is kept" in sentence
    assert came == "What came"


def test_an_answer_that_is_cut_before_it_begins() -> None:
    sentence, _ = fail(Canned((), kind=STREAM, ending="cut"))
    assert "closed the connection" in sentence


def test_a_reply_that_the_server_ended_itself() -> None:
    sentence, came = fail(stream(BEGUN, events(says(end="abort"))))
    assert "ended the reply itself ('abort')" in sentence
    assert came == "What came"


def test_an_end_without_done_is_an_end() -> None:
    chat = stream(BEGUN, events(says(end="stop"), done=False))
    with as_vllm(chat) as server, served(server) as loaded:
        assert text_of(loaded.stream(turn())) == "What came"


def test_a_server_that_falls_silent_is_not_waited_for_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = Server.__init__

    def impatient(self: Server, *args: Any, **options: Any) -> None:
        short(self, *args, **options, read_s=0.2)

    monkeypatch.setattr(client.Server, "__init__", impatient)
    sentence, came = fail(stream(BEGUN, ending="silent"))
    assert "was silent for 0.2 seconds" in sentence
    assert came == "What came"


def test_a_server_that_went_down_is_told_so() -> None:
    with as_vllm(stream(BEGUN)) as server:
        pair = served(server)
        loaded = pair.__enter__()
        host = server.host
    with pytest.raises(GenerationFailed, match=f"No server answers at {host}"):
        list(loaded.stream(turn()))
    pair.__exit__(None, None, None)


@pytest.fixture
def late_server() -> Iterator[tuple[str, Any]]:
    """An address where somebody listens only once the first attempt has failed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield f"http://127.0.0.1:{port}/v1", port


def test_connecting_is_tried_again_with_back_off(late_server: tuple[str, Any]) -> None:
    url, port = late_server
    attempts: list[str] = []
    server = Server(url)

    class Listening(Wire):
        def trace(self, event: str, info: Any) -> None:
            attempts.append(event)
            super().trace(event, info)

    with pytest.raises(GenerationFailed) as caught, server.reply({}, Listening()):
        pass
    assert f"No server answers at 127.0.0.1:{port}" in str(caught.value)
    server.close()
    assert attempts.count("connection.connect_tcp.started") == 1 + client.CONNECT_RETRIES


def test_a_stop_ends_the_attempts_to_connect(late_server: tuple[str, Any]) -> None:
    server, wire = Server(late_server[0]), Wire()
    wire.abort()
    with pytest.raises(Cut), server.reply({}, wire):
        pass
    server.close()


def test_a_counter_page_that_breaks_costs_the_acceptance_and_not_the_run() -> None:
    server = as_vllm(stream(shape("vllm_chat.sse")))
    with server, served(server) as loaded:
        server.routes["/metrics"] = Canned((b"vllm:",), kind="text/plain", ending="cut")
        found = list(loaded.stream(turn()))
    assert len(text_of(found)) > 50
    assert CHAT in [each.path for each in server.asked]
