"""A pair on one server or two: where each mode goes, and what is refused before it is sent."""

from contextlib import closing

import pytest
from dflash_plugins.remote.backend import RemoteBackend

from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import GenerationFailed, LoadError, PairNotReady, RequestError
from dflash_app.events import Finished
from dflash_app.metrics import summarize
from dflash_app.request import Message
from tests.plugins.remote.asking_servers import (
    counts_of,
    row,
    served,
    text_of,
    turn,
)
from tests.plugins.remote.scripted_server import (
    as_llama_cpp,
    as_sglang,
    as_unknown,
    as_vllm,
    events,
    fails,
    models,
    says,
    shape,
    stream,
    told,
)

DETAILED = stream(shape("vllm_chat_detailed.sse"))
HELLO = stream(events(says("Hello."), says(end="stop")))


def test_each_mode_goes_to_its_server() -> None:
    plain = b"".join(
        line for line in shape("vllm_metrics.txt").splitlines(True) if b"spec_" not in line
    )
    with as_vllm(HELLO, metrics=plain) as target, as_vllm(DETAILED) as drafter:
        pair = row(target.url, "embedded", drafter=drafter.url)
        with closing(RemoteBackend().load(pair, LoadOptions())) as loaded:
            assert loaded.warnings == ()
            assert loaded.device == f"{target.host}, {drafter.host}"
            assert (loaded.path, loaded.drafter_path) == ("vLLM 0.32.0", "vLLM 0.32.0")
            assert (loaded.block_size, loaded.context_length) == (16, 1024)
            lanes = [turn(mode="ar"), turn(mode="dflash")]
            found = list(loaded.race(lanes))
        assert (len(target.chats()), len(drafter.chats())) == (1, 1)
    assert [lane for lane, _ in found] == sorted(lane for lane, _ in found)
    assert text_of(event for lane, event in found if lane == 0) == "Hello."
    assert sum(isinstance(event, Finished) for _, event in found) == 2


def test_a_server_that_always_drafts_decodes_nothing_plainly() -> None:
    with as_vllm(DETAILED) as server, served(server) as loaded:
        assert any("cannot be the plain lane" in told for told in loaded.warnings)
        with pytest.raises(RequestError, match="cannot decode plainly"):
            loaded.stream(turn(mode="ar"))
        assert server.chats() == []


def test_older_llama_cpp_switches_its_drafts_off_for_one_request() -> None:
    plain = stream(events(says("Hi.", timings={"predicted_n": 2}), says(end="stop")))
    server = as_llama_cpp(plain, props="llama_cpp_older_props.json")
    server.routes["/slots"] = told([{"speculative": True}])
    with server, served(server, "target.gguf") as loaded:
        found = list(loaded.stream(turn(mode="ar")))
        list(loaded.stream(turn(mode="dflash")))
        first, second = server.chats()
    assert first["speculative.n_max"] == 0
    assert "speculative.n_max" not in second
    assert counts_of(found).num_drafted == 0
    assert summarize(found).mean_acceptance_length is None


def test_plain_decoding_that_was_drafted_after_all_is_no_baseline() -> None:
    server = as_llama_cpp(stream(shape("llama_cpp_chat.sse")), props="llama_cpp_older_props.json")
    with server, served(server, "target.gguf") as loaded:
        came = []
        with pytest.raises(GenerationFailed, match="drafted though plain decoding"):
            for event in loaded.stream(turn(mode="ar")):
                came.append(event)
    assert text_of(came) == "It is 42."


def test_a_server_without_drafts_is_no_place_for_dflash() -> None:
    plain = b"".join(
        line for line in shape("vllm_metrics.txt").splitlines(True) if b"spec_" not in line
    )
    with as_vllm(DETAILED, metrics=plain) as server:
        pair = row(server.url, "embedded")
        with pytest.raises(PairNotReady, match="without drafting"):
            RemoteBackend().load(pair, LoadOptions())
        with closing(RemoteBackend().load(pair, LoadOptions(drafter=False))) as loaded:
            assert (loaded.block_size, loaded.drafter_path) == (None, None)
            with pytest.raises(RequestError, match="no server that drafts"):
                loaded.stream(turn())


def test_where_drafts_cannot_be_told_a_warning_is() -> None:
    with as_unknown(HELLO) as server, served(server, "some-model") as loaded:
        told = " ".join(loaded.warnings)
        assert "does not tell whether it drafts" in told
        assert "does not tell its context length" in told
        assert loaded.context_length == 1_000_000


def test_the_block_size_is_the_server_s_own() -> None:
    with as_vllm(DETAILED) as server, served(server) as loaded:
        list(loaded.stream(turn(block_size=16)))
        with pytest.raises(RequestError, match="blocks of 16, which a request cannot change"):
            loaded.stream(turn(block_size=8))


def test_what_a_server_decides_itself_is_refused_as_an_option() -> None:
    with as_vllm(DETAILED) as server:
        pair = row(server.url, "embedded")
        for options in (
            LoadOptions(quantization="nf4"),
            LoadOptions(device="cuda:0"),
            LoadOptions(dtype="float32"),
        ):
            with pytest.raises(LoadError, match="server's own"):
                RemoteBackend().load(pair, options)
        RemoteBackend().load(pair, LoadOptions(num_threads=1)).close()


def test_loading_refuses_a_model_that_is_not_served_and_a_server_that_is_down() -> None:
    with as_vllm(DETAILED) as server:
        with pytest.raises(PairNotReady, match=r"no model 'nope': .* 'embedded'"):
            RemoteBackend().load(row(server.url, "nope"), LoadOptions())
        server.routes["/v1/models"] = fails(401)
        with pytest.raises(PairNotReady, match=r"asks for a key .*DFLASH_APP_KEY_GPU_BOX"):
            RemoteBackend().load(row(server.url, "embedded"), LoadOptions())
        url = server.url
    with pytest.raises(PairNotReady, match="No server answers"):
        RemoteBackend().load(row(url, "embedded"), LoadOptions())


def test_tokens_have_texts_where_the_server_knows_them() -> None:
    with as_vllm(DETAILED) as server, served(server) as loaded:
        assert loaded.token_texts([5, 6, 5]) == ["<5>", "<6>", "<5>"]
        assert len([each for each in server.asked if each.path == "/detokenize"]) == 2
        del server.routes["/detokenize"]
        assert loaded.token_texts([7]) == ["[7]"]
    with as_sglang(DETAILED) as server, served(server, "org/target") as loaded:
        assert loaded.token_texts([5]) == ["[5]"]


def test_a_server_tells_no_logits_and_holds_no_memory_here() -> None:
    with as_vllm(DETAILED) as server, served(server) as loaded:
        with pytest.raises(RequestError, match="does not tell its logits"):
            loaded.next_logits(turn(), [1], [2, 3])
        assert loaded.memory_bytes() == 0
        assert (loaded.dtype, loaded.rollback_kind, loaded.quantization) == ("server",) * 2 + (
            None,
        )


def test_a_conversation_is_sent_as_it_is() -> None:
    with as_vllm(HELLO) as server, served(server) as loaded:
        request = turn().__class__(
            messages=(
                Message("system", "Be brief."), Message("user", "a"),
                Message("assistant", "<think>\nx\n</think>\n\nb"), Message("user", "<|im_end|>c"),
            )
        )  # fmt: skip
        list(loaded.stream(request))
        sent = server.chats()[0]["messages"]
    assert [each["role"] for each in sent] == ["system", "user", "assistant", "user"]
    assert sent[3]["content"] == "<|im_end|>c"


def test_a_list_of_models_without_the_drafter_s_is_told_by_its_server() -> None:
    with as_vllm(HELLO) as target, as_vllm(DETAILED) as drafter:
        drafter.routes["/v1/models"] = models("other")
        pair = row(target.url, "embedded", drafter=drafter.url)
        with pytest.raises(PairNotReady, match=f"{drafter.host} serves no model 'embedded'"):
            RemoteBackend().load(pair, LoadOptions())
