"""A server that was started anew under a loaded pair, with a drafter or without, is noticed."""

from typing import Any

import pytest
from dflash_plugins.remote import vllm

from dflash_app.errors import GenerationFailed
from tests.plugins.remote.asking_servers import served, text_of, turn
from tests.plugins.remote.scripted_server import CHAT, Canned, as_vllm, shape, stream

UNCOUNTED = stream(shape("vllm_chat.sse"))
DETAILED = stream(shape("vllm_chat_detailed.sse"))
DRAFTING = Canned((shape("vllm_metrics.txt"),), kind="text/plain")
GROWN = Canned(
    (shape("vllm_metrics.txt").replace(b'"embedded"} 240.0', b'"embedded"} 315.0')
     .replace(b'"embedded"} 16.0', b'"embedded"} 21.0'),),
    kind="text/plain",
)  # fmt: skip
PLAIN = b'vllm:num_requests_running{engine="0"} 0.0\n'


def test_a_plain_server_that_has_a_drafter_now_is_no_baseline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = as_vllm(UNCOUNTED, metrics=PLAIN)
    with server, served(server, drafter=None) as loaded:
        assert len(text_of(loaded.stream(turn(mode="ar")))) > 50

        def draft(_: Any) -> Canned:
            server.routes["/metrics"] = GROWN
            return UNCOUNTED

        server.routes |= {"/metrics": DRAFTING, CHAT: draft}
        monkeypatch.setattr(vllm, "LOOK_AGAIN_S", 0.0)
        with pytest.raises(GenerationFailed, match="drafted though plain decoding was asked for"):
            list(loaded.stream(turn(mode="ar")))


def test_a_plain_server_is_not_asked_again_before_it_could_have_been_started_anew() -> None:
    server = as_vllm(UNCOUNTED, metrics=PLAIN)
    with server, served(server, drafter=None) as loaded:
        for _ in range(3):
            list(loaded.stream(turn(mode="ar")))
    assert [each.path for each in server.asked].count("/metrics") == 1


def test_a_server_without_its_drafter_decodes_no_dflash() -> None:
    with as_vllm(DETAILED) as server, served(server) as loaded:
        list(loaded.stream(turn()))
        server.routes |= {"/metrics": Canned((PLAIN,), kind="text/plain"), CHAT: UNCOUNTED}
        with pytest.raises(GenerationFailed, match="drafts no longer: start it with its drafter"):
            list(loaded.stream(turn()))
        num_sent = len(server.chats())
        with pytest.raises(GenerationFailed, match="drafts no longer"):
            list(loaded.stream(turn()))
        assert len(server.chats()) == num_sent


def test_a_run_that_tells_no_acceptance_is_no_proof_of_a_restart() -> None:
    with as_vllm(DETAILED) as server, served(server) as loaded:
        list(loaded.stream(turn()))
        server.routes[CHAT] = UNCOUNTED  # as where a stop text ended it
        assert len(text_of(loaded.stream(turn()))) > 50
