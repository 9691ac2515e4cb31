"""A server that means harm, or is broken in an odd way, costs one sentence: no memory, no hours."""

import gc
import gzip
from collections.abc import Iterator
from contextlib import closing

import pytest
from dflash_plugins.remote import client
from dflash_plugins.remote.client import Server
from dflash_plugins.remote.counting import by_position, histogram_of, seconds
from dflash_plugins.remote.probe import probe
from dflash_plugins.remote.sse import payloads
from dflash_plugins.remote.wire import Cut, Wire

from dflash_app.errors import DFlashAppError, GenerationFailed, RequestError
from tests.plugins.remote.asking_servers import counts_of, end_of, served, text_of, turn
from tests.plugins.remote.scripted_server import (
    STREAM,
    Canned,
    ScriptedServer,
    as_vllm,
    events,
    models,
    says,
    shape,
    stream,
    told,
)

HELLO = stream(events(says("Hello.", token_ids=[1]), says(end="stop")))
ZIPPED = (("content-encoding", "gzip"),)
COUNTER = b"vllm:spec_decode_num_"


def probed(server: ScriptedServer) -> str:
    with server, pytest.raises(DFlashAppError) as caught:
        probe(server.url)
    return str(caught.value)


# Bytes


def test_a_compressed_answer_is_not_unpacked() -> None:
    small = gzip.compress(b'{"data": []}' + b" " * 20_000_000)
    canned = Canned((small,), headers=ZIPPED)
    assert "a compressed answer" in probed(ScriptedServer({"/v1/models": canned}))


def test_a_compressed_reply_is_not_unpacked() -> None:
    whole = gzip.compress(events(says("Hello."), says(end="stop")))
    chat = Canned((whole,), kind=STREAM, headers=ZIPPED)
    with as_vllm(chat) as server, served(server) as loaded, pytest.raises(GenerationFailed) as no:
        list(loaded.stream(turn()))
    assert "a compressed answer" in str(no.value)


def test_a_reply_without_end_is_given_up_and_what_came_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forever = stream(*[events(says("again "), done=False)] * 5000)
    came = []
    with as_vllm(forever) as server, served(server) as loaded:
        monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1000)
        monkeypatch.setattr(client, "MAX_TOKEN_BYTES", 100)
        with pytest.raises(GenerationFailed, match="in one reply"):
            for event in loaded.stream(turn(max_new_tokens=10)):
                came.append(event)
        assert server.gone.wait(5)
    assert 0 < len(text_of(came)) < 1000


def test_a_line_in_many_small_pieces_is_joined_once() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"data: "
        yield from [b"0123456789"] * 400_000
        yield b"\n\n"

    (payload,) = payloads(pieces())
    assert len(payload) == 4_000_000


def test_a_short_answer_that_trickles_in_is_not_waited_for() -> None:
    slow = Canned((b" ",) * 5000, gap_s=0.02)
    with ScriptedServer({"/v1/models": slow}) as server:
        asking = Server(server.url, ask_s=1.0)
        with closing(asking), pytest.raises(GenerationFailed) as caught:
            asking.ask("/models")
        assert "did not finish its answer in 2 seconds" in str(caught.value)
        assert server.gone.wait(5)


def test_no_cookie_is_kept() -> None:
    with as_vllm(HELLO) as server:
        server.routes["/v1/models"] = Canned(
            models("embedded").pieces, headers=(("set-cookie", "seen=1; Path=/"),)
        )
        with served(server) as loaded:
            list(loaded.stream(turn()))
        assert len(server.asked) > 3
        assert not any("cookie" in each.headers for each in server.asked)


# The end of a reply


def test_a_reply_is_read_to_its_end_behind_the_last_event() -> None:
    more = (b": a comment\n\n", b": and one more\n\n")
    with as_vllm(stream(shape("vllm_chat_detailed.sse"), *more, gap_s=0.02)) as server:
        with served(server) as loaded:
            before = server.num_sent
            assert end_of(list(loaded.stream(turn()))).reason == "length"
            assert server.num_sent == before + 4  # the counters, and all three pieces
        assert not server.gone.is_set()


def test_a_server_that_does_not_hang_up_is_not_waited_for() -> None:
    chat = stream(shape("vllm_chat_detailed.sse"), ending="silent")
    with as_vllm(chat) as server, served(server) as loaded:
        assert end_of(list(loaded.stream(turn()))).reason == "length"
        assert server.gone.wait(5)


def test_a_connection_that_is_cut_while_it_is_made_is_closed() -> None:
    with as_vllm(HELLO) as server, closing(Server(server.url)) as asking:
        wire = Wire()
        wire.abort()
        with pytest.raises(Cut), asking.reply({}, wire):
            pass
        gc.collect()  # an open socket would be a warning, which is an error
        assert server.chats() == []


def test_a_turn_that_is_begun_once_its_pair_is_unloaded_is_told_so() -> None:
    with as_vllm(HELLO) as server, served(server) as loaded:
        waiting = loaded.stream(turn())
        loaded.close()
        with pytest.raises(GenerationFailed, match="unloaded while it was working"):
            next(waiting)
        assert server.chats() == []


# Values


@pytest.mark.parametrize("value", [b"1e999", b"1.2.3", b"e", b"9" * 400])
def test_a_counter_that_is_no_number_is_no_counter(value: bytes) -> None:
    page = shape("vllm_metrics.txt")
    broken = page.replace(b'"embedded"} 16.0', b'"embedded"} ' + value)
    with as_vllm(stream(shape("vllm_chat.sse"))) as server, served(server) as loaded:
        server.routes["/metrics"] = Canned((broken,), kind="text/plain")
        with pytest.raises(GenerationFailed, match="drafts no longer"):
            list(loaded.stream(turn()))


def test_a_counter_s_line_without_end_is_passed_over() -> None:
    endless = COUNTER + b"drafts_total{" + b'position="1"' * 500_000 + b"\n"
    with as_vllm(HELLO, metrics=endless + shape("vllm_metrics.txt")) as server:
        assert probe(server.url).num_drafts == 15


def test_a_histogram_of_more_drafts_than_any_engine_makes_is_none() -> None:
    own = {"acceptance_histogram": [1] * 300_000, "per_step_drafted": [300_000] * 1000}
    last = {"choices": [], "usage": {"completion_tokens": 1}}
    last["metrics"] = {"speculative_decoding": own | {"num_spec_steps": 1}}
    chat = stream(events(says("a", token_ids=[1], end="stop"), last))
    with as_vllm(chat) as server, served(server) as loaded:
        counts = counts_of(loaded.stream(turn()))
    assert (counts.num_steps, counts.histogram, counts.drafted_by_position) == (1, (), ())


def test_counts_by_position_are_those_of_the_steps_that_went_as_far() -> None:
    assert by_position((4, 3, 0, 2)) == (5, 2, 2)
    assert by_position((7,)) == by_position(()) == ()
    assert histogram_of([4, 3]) == (4, 3)
    assert histogram_of([0] * 2000) == histogram_of("no") == ()


@pytest.mark.parametrize("told", [-1.0, float("nan"), float("inf"), True, "12", None])
def test_a_time_that_is_none_is_not_told(told: object) -> None:
    assert seconds(told) is None
    assert seconds(250) == 0.25


@pytest.mark.parametrize("ids", [[1.5], [True], [1, 2.0]])
def test_token_ids_are_whole_numbers(ids: list[object]) -> None:
    chat = stream(events(says("a", token_ids=ids), says(end="stop")))
    with as_vllm(chat) as server, served(server) as loaded, pytest.raises(GenerationFailed) as no:
        list(loaded.stream(turn()))
    assert "none of a chat" in str(no.value)


def test_a_version_is_short_and_on_one_line() -> None:
    with as_vllm(HELLO) as server:
        server.routes["/version"] = told({"version": "0.32.0\n\x1b[31m" + "x" * 100_000})
        label = probe(server.url).label
    assert label.startswith("vLLM 0.32.0[31mx")
    assert len(label) < 80


def test_a_model_s_long_name_does_not_fill_the_page() -> None:
    with as_vllm(HELLO) as server:
        server.routes["/v1/models"] = models("m" * 100_000)
        with pytest.raises(DFlashAppError, match="serves no model 'embedded'") as caught:
            served(server).__enter__()
    assert len(str(caught.value)) < 1000


# Addresses and texts


@pytest.mark.parametrize(
    "host", ["a" * 64, "a..b", "...", "xn--", "xn--a", "\u2603.invalid", "x\x00y", "\uff11\uff12"]
)
def test_a_name_that_no_machine_can_have_is_told_so(host: str) -> None:
    with pytest.raises(RequestError, match="No machine can have the name"):
        probe(f"http://{host}/v1")


def test_half_a_surrogate_pair_is_refused_wherever_it_stands() -> None:
    with as_vllm(HELLO) as server, served(server) as loaded:
        with pytest.raises(RequestError, match="Character 2 of a stop text"):
            loaded.stream(turn(stop=("x\ud83d",)))
        with pytest.raises(RequestError, match="of the thinking level"):
            loaded.stream(turn(thinking="\ud83d"))
        assert server.chats() == []


def test_a_server_that_answers_anything_with_success_is_asked_below_v1_too() -> None:
    other = told({"error": "Unexpected endpoint or method. (GET /models)"})
    with ScriptedServer(
        {"/models": other, "/v1/models": models("some-model", owner="x")}
    ) as server:
        found = probe(f"http://{server.host}/")
    assert found.url == server.url
    assert [model.name for model in found.models] == ["some-model"]
