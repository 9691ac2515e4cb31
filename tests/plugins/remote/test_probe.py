"""What a server is, and what it tells, is found out by a few small requests.

vLLM's answers were recorded from 0.32.0; SGLang's and llama.cpp's are written after their source.
"""

import json

import pytest
from dflash_plugins.remote.capabilities import ServedModel
from dflash_plugins.remote.faults import ServerError
from dflash_plugins.remote.probe import probe

from dflash_app.errors import DFlashAppError, RequestError
from tests.plugins.remote.scripted_server import (
    Canned,
    ScriptedServer,
    as_llama_cpp,
    as_sglang,
    as_unknown,
    as_vllm,
    fails,
    models,
    shape,
    stream,
    told,
)

CHAT = stream()


def test_vllm_tells_version_context_and_drafts() -> None:
    with as_vllm(CHAT) as server:
        found = probe(server.url)
    assert (found.engine, found.version, found.label) == ("vllm", "0.32.0", "vLLM 0.32.0")
    assert found.models == (ServedModel("embedded", 1024),)
    assert (found.drafts, found.num_drafts, found.healthy) == (True, 15, True)
    assert found.tells_token_ids
    assert not found.can_switch_drafts


def test_vllm_without_a_drafter_counts_no_drafts() -> None:
    plain = b"".join(
        line for line in shape("vllm_metrics.txt").splitlines(True) if b"spec_decode" not in line
    )
    with as_vllm(CHAT, metrics=plain) as server:
        assert probe(server.url).drafts is False


def test_vllm_with_its_metrics_closed_tells_nothing_of_drafts() -> None:
    server = as_vllm(CHAT)
    server.routes["/metrics"] = fails(403)
    with server:
        found = probe(server.url)
    assert (found.drafts, found.num_drafts) == (None, None)


def test_sglang_s_block_has_one_token_more_than_it_drafts() -> None:
    with as_sglang(CHAT) as server:
        found = probe(server.url)
    assert found.label == "SGLang 0.5.12"
    assert (found.drafts, found.num_drafts) == (True, 15)
    assert found.models == (ServedModel("org/target", 40960),)


def test_sglang_of_the_older_route_and_without_speculation() -> None:
    server = as_sglang(CHAT, speculative_algorithm=None)
    server.routes["/get_server_info"] = server.routes.pop("/server_info")
    with server:
        found = probe(server.url)
    assert (found.version, found.drafts, found.num_drafts) == ("0.5.12", False, None)


def test_llama_cpp_tells_its_kind_of_drafts_and_not_their_number() -> None:
    with as_llama_cpp(CHAT) as server:
        found = probe(server.url)
    assert found.label == "llama.cpp b10321-0177c342"
    assert (found.drafts, found.num_drafts, found.can_switch_drafts) == (True, None, False)
    assert found.models == (ServedModel("target.gguf", 8192),)


def test_llama_cpp_of_older_builds_takes_the_number_of_drafts_with_a_request() -> None:
    server = as_llama_cpp(CHAT, props="llama_cpp_older_props.json")
    server.routes["/slots"] = told([{"id": 0, "speculative": True}])
    with server:
        found = probe(server.url)
    assert (found.drafts, found.num_drafts, found.can_switch_drafts) == (True, 15, True)


def test_engines_behind_a_proxy_are_known_by_their_routes() -> None:
    for server, engine in ((as_sglang(CHAT), "sglang"), (as_llama_cpp(CHAT), "llama.cpp")):
        server.routes["/v1/models"] = models("target.gguf", owner="proxy")
        with server:
            assert probe(server.url).engine == engine


def test_any_other_server_is_unknown_and_tells_nothing() -> None:
    with as_unknown(CHAT) as server:
        found = probe(server.url)
    assert found.label == "OpenAI-compatible server"
    assert (found.engine, found.version, found.drafts, found.healthy) == ("unknown", *[None] * 3)
    assert found.models == (ServedModel("some-model", None),)


def test_the_address_is_found_with_v1_and_without() -> None:
    with as_vllm(CHAT) as server:
        assert probe(f"http://{server.host}").url == server.url
        assert probe(f"{server.url}/").url == server.url
    at_root = ScriptedServer({"/models": models("a", owner="x")})
    with at_root as server:
        assert probe(f"http://{server.host}").url == f"http://{server.host}"


def test_a_model_that_is_not_served_is_answered_with_those_that_are() -> None:
    with as_unknown(CHAT) as server:
        server.routes["/v1/models"] = models(*(f"m{n}" for n in range(20)), owner="x")
        found = probe(server.url)
    assert found.model("m3").name == "m3"
    with pytest.raises(RequestError, match=r"no model 'nope': .* 'm0', .*'m11' and 8 more"):
        found.model("nope")


def test_a_server_that_is_not_well_is_said_to_be() -> None:
    server = as_vllm(CHAT)
    server.routes["/health"] = fails(503)
    with server:
        assert probe(server.url).healthy is False


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (fails(401), "asks for a key .401.: set the right one as DFLASH_APP_SERVER_KEY"),
        (fails(404, {"detail": "Not Found"}), "nothing at this address .Not Found."),
        (fails(500, {"error": {"message": "broken"}}), "failed with status 500 .broken."),
        (told([1, 2]), "no list of models"),
        (told({"data": [{"name": "x"}]}), "no list of models"),
        (Canned((b"<html>",), kind="text/html"), "no list of models"),
        (Canned((b"x" * 1_000_000,) * 9), "more than 8 MB"),
        (Canned((b"{",), ending="cut"), "closed the connection"),
    ],
)
def test_what_is_no_server_of_ours_is_told_in_a_sentence(answer: Canned, said: str) -> None:
    with ScriptedServer({"/v1/models": answer}) as server, pytest.raises(ServerError, match=said):
        probe(server.url)


def test_an_engine_s_route_that_answers_nonsense_is_told_so() -> None:
    server = as_llama_cpp(CHAT)
    server.routes["/props"] = told({"default_generation_settings": {"params": [1]}})
    with server, pytest.raises(ServerError, match="description that cannot be read"):
        probe(server.url)


def test_a_server_that_is_down_or_silent_is_told_apart() -> None:
    with as_unknown(CHAT) as server:
        url = server.url
    with pytest.raises(ServerError, match=r"No server answers at 127\.0\.0\.1"):
        probe(url)
    silent = ScriptedServer({"/v1/models": Canned((b"{",), ending="silent")})
    with silent as server, pytest.raises(ServerError, match=r"silent for 0\.2 seconds"):
        probe(server.url, timeout_s=0.2)


def test_the_key_goes_to_the_server_and_nowhere_else() -> None:
    with as_vllm(CHAT) as elsewhere, as_vllm(CHAT) as server:
        to = (("location", f"http://user:pw@{elsewhere.host}/v1/models?token=x"),)
        server.routes["/v1/models"] = fails(307, headers=to)
        with pytest.raises(ServerError, match=r"redirects to 127\.0\.0\.1, where neither") as error:
            probe(server.url, "sk-secret")
        assert server.asked[0].headers["authorization"] == "Bearer sk-secret"
        assert elsewhere.asked == []
    assert "pw" not in str(error.value)
    assert "token" not in str(error.value)


def test_a_server_that_repeats_the_key_does_not_make_us_repeat_it() -> None:
    echo = fails(500, {"error": {"message": "Incorrect API key provided: sk-secret\x1b[31m."}})
    with ScriptedServer({"/v1/models": echo}) as server, pytest.raises(DFlashAppError) as caught:
        probe(server.url, "sk-secret")
    assert "sk-secret" not in str(caught.value)
    assert "provided: [key] [31m" in str(caught.value)
    assert json.dumps(str(caught.value)).isprintable()
