"""What each engine is asked, and what it tells of a turn.

vLLM's answers were recorded from 0.32.0; SGLang's and llama.cpp's are written after their source.
"""

from typing import Any

import pytest

from dflash_app.errors import RequestError
from dflash_app.events import TokensArrived, token_ids_of
from dflash_app.metrics import summarize
from dflash_app.request import SamplingParams
from dflash_app.ui.chat_markdown import split_thought
from tests.plugins.remote.asking_servers import (
    counts_of,
    end_of,
    served,
    text_of,
    turn,
)
from tests.plugins.remote.scripted_server import (
    CHAT,
    Canned,
    as_llama_cpp,
    as_sglang,
    as_unknown,
    as_vllm,
    events,
    says,
    shape,
    stream,
)

DETAILED = stream(shape("vllm_chat_detailed.sse"))
HELLO = stream(events(says("Hello."), says(end="stop")))


def grown(chat: Canned, metrics: bytes) -> Any:
    """A vLLM whose counters have grown once it was asked to chat."""
    server = as_vllm(chat)

    def answer(_: Any) -> Canned:
        server.routes["/metrics"] = Canned((metrics,), kind="text/plain")
        return chat

    server.routes[CHAT] = answer
    return server


# What the engines tell


def test_vllm_tells_tokens_text_and_acceptance_of_the_request() -> None:
    with as_vllm(DETAILED) as server, served(server) as loaded:
        found = list(loaded.stream(turn(max_new_tokens=48)))
    ids = [token_id for event in found for token_id in token_ids_of(event)]
    assert len(ids) == 48
    assert ids[:4] == [346, 224, 20, 26]
    assert text_of(found).startswith("Add 17 + 25 column by column:\nOnes: 7 + 5 + 0 = 12")
    counts = counts_of(found)
    assert (counts.source, counts.shared) == ("vLLM, this request", False)
    assert (counts.num_prompt_tokens, counts.num_output_tokens) == (18, 48)
    assert (counts.num_steps, counts.num_drafted, counts.num_accepted) == (5, 75, 43)
    assert counts.accepted_by_position == (5, 4, 4, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2)
    assert counts.drafted_by_position == (5,) * 15
    assert end_of(found).reason == "length"
    metrics = summarize(found)
    assert metrics.mean_acceptance_length == pytest.approx(9.6)
    assert metrics.num_output_tokens == 48


def test_vllm_s_own_time_is_taken_where_it_was_started_to_tell_it() -> None:
    with as_vllm(stream(shape("vllm_chat_plain.sse"))) as server, served(server) as loaded:
        counts = counts_of(loaded.stream(turn()))
    assert counts.decode_s == pytest.approx(0.24135025800205767)
    assert (counts.num_reused, counts.num_output_tokens) == (0, 64)


def test_vllm_s_counters_stand_in_and_are_said_to_be_shared() -> None:
    before = shape("vllm_metrics.txt")
    after = before.replace(b'"embedded"} 16.0', b'"embedded"} 21.0')
    after = after.replace(b'"embedded"} 240.0', b'"embedded"} 315.0')
    after = after.replace(b'"embedded"} 120.0', b'"embedded"} 1.63e+02')
    after = after.replace(b'position="0"} 16.0', b'position="0"} 21.0')
    with grown(stream(shape("vllm_chat.sse")), after) as server, served(server) as loaded:
        counts = counts_of(loaded.stream(turn()))
    assert (counts.source, counts.shared) == ("vLLM /metrics", True)
    assert (counts.num_steps, counts.num_drafted, counts.num_accepted) == (5, 75, 43)
    assert counts.accepted_by_position == (5, *[0] * 14)


def test_vllm_s_counters_are_not_asked_once_replies_tell_acceptance() -> None:
    with as_vllm(DETAILED) as server, served(server) as loaded:
        for _ in range(3):
            list(loaded.stream(turn()))
        asked = [each.path for each in server.asked if each.path == "/metrics"]
    assert len(asked) == 2  # while it was reached, and before the first turn


def test_vllm_s_counters_that_went_back_tell_nothing() -> None:
    restarted = shape("vllm_metrics.txt").replace(b'"embedded"} 16.0', b'"embedded"} 2.0')
    with grown(stream(shape("vllm_chat.sse")), restarted) as server, served(server) as loaded:
        counts = counts_of(loaded.stream(turn()))
    assert (counts.source, counts.num_steps, counts.num_output_tokens) == ("vLLM", None, 48)


def test_sglang_tells_reasoning_counts_and_acceptance() -> None:
    chat = stream(shape("sglang_chat.sse"))
    with as_sglang(chat) as server, served(server, "org/target") as loaded:
        found = list(loaded.stream(turn()))
    assert split_thought(text_of(found)) == ("Add the ones first.", False, "It is 42.")
    came = [event.num_tokens for event in found if isinstance(event, TokensArrived)]
    assert came == [3, 4, 5]
    counts = counts_of(found)
    assert (counts.source, counts.num_reused, counts.num_output_tokens) == ("SGLang", 5, 12)
    assert (counts.num_steps, counts.num_drafted, counts.num_accepted) == (3, 45, 9)
    assert counts.accepted_by_position == (3, 2, 2, 2)
    assert summarize(found).mean_acceptance_length == 4.0


def test_llama_cpp_tells_drafts_and_its_steps_follow() -> None:
    chat = stream(shape("llama_cpp_chat.sse"))
    with as_llama_cpp(chat) as server, served(server, "target.gguf", block_size=16) as loaded:
        found = list(loaded.stream(turn()))
        assert loaded.block_size == 16
    assert text_of(found) == "It is 42."
    counts = counts_of(found)
    assert (counts.num_drafted, counts.num_accepted, counts.num_steps) == (30, 5, 2)
    assert (counts.num_prompt_tokens, counts.num_output_tokens, counts.decode_s) == (19, 8, 0.044)
    assert summarize(found).mean_acceptance_length == 3.5


def test_a_server_of_unknown_kind_tells_text_and_an_end() -> None:
    with as_unknown(HELLO) as server, served(server, "some-model", drafter=None) as loaded:
        found = list(loaded.stream(turn(mode="ar")))
    assert text_of(found) == "Hello."
    assert [type(event).__name__ for event in found] == ["TokensArrived", "TextDelta", "Finished"]
    assert summarize(found).num_output_tokens is None


# What the engines are asked


SAMPLING = SamplingParams(
    temperature=0.7, top_p=0.9, top_k=20, min_p=0.1, repetition_penalty=1.1, seed=3
)


def asked(server: Any, model: str, **options: Any) -> dict[str, Any]:
    with server, served(server, model) as loaded:
        list(loaded.stream(turn(**options)))
        (body,) = server.chats()
    assert isinstance(body, dict)
    return body


def test_vllm_is_asked_for_all_of_the_sampling_and_for_token_ids() -> None:
    assert asked(as_vllm(DETAILED), "embedded", sampling=SAMPLING, stop=("x",)) == {
        "model": "embedded",
        "messages": [{"role": "user", "content": "What is 17 + 25?"}],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": 512,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": 3,
        "stop": ["x"],
        "return_token_ids": True,
    }


def test_greedy_decoding_leaves_nothing_to_the_model_s_own_defaults() -> None:
    body = asked(as_vllm(DETAILED), "embedded", max_new_tokens=5000)
    assert body["max_tokens"] == 1024  # its context: vLLM refuses more
    sent = [body[name] for name in ("temperature", "top_p", "top_k", "min_p")]
    assert sent == [0.0, 1.0, -1, 0.0]
    assert "seed" not in body


def test_sglang_and_llama_cpp_are_asked_in_their_own_words() -> None:
    body = asked(as_sglang(stream(shape("sglang_chat.sse"))), "org/target", sampling=SAMPLING)
    assert body["return_spec_tokens_details"] is True
    assert (body["top_k"], body["repetition_penalty"]) == (20, 1.1)
    assert "return_token_ids" not in body
    chat = stream(shape("llama_cpp_chat.sse"))
    body = asked(as_llama_cpp(chat), "target.gguf", sampling=SAMPLING)
    assert body["timings_per_token"] is True
    assert (body["repeat_penalty"], body["repeat_last_n"], body["top_k"]) == (1.1, 1_000_000, 20)
    assert not {"repetition_penalty", "return_token_ids", "speculative.n_max"} & body.keys()


@pytest.mark.parametrize(
    ("thinking", "sent"),
    [
        ("on", {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}}),
        ("off", {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
        (
            "low",
            {"chat_template_kwargs": {"reasoning_effort": "low"}, "reasoning_effort": "low"},
        ),
    ],
)
def test_thinking_is_told_to_the_chat_template(thinking: str, sent: dict[str, Any]) -> None:
    body = asked(as_vllm(DETAILED), "embedded", thinking=thinking)
    assert {name: body.get(name) for name in sent} == sent
    assert "chat_template_kwargs" not in asked(as_vllm(DETAILED), "embedded")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sampling": SamplingParams(temperature=1.0, top_k=5)}, "top_k"),
        ({"sampling": SamplingParams(temperature=1.0, min_p=0.1)}, "min_p"),
        ({"sampling": SamplingParams(repetition_penalty=1.1)}, "repetition_penalty"),
        ({"thinking": "off"}, "thinking"),
    ],
)
def test_a_server_of_unknown_kind_is_asked_for_nothing_that_it_may_refuse(
    options: dict[str, Any], named: str
) -> None:
    with as_unknown(HELLO) as server, served(server, "some-model", drafter=None) as loaded:
        with pytest.raises(RequestError, match=named):
            loaded.stream(turn(mode="ar", **options))
        list(loaded.stream(turn(mode="ar", sampling=SamplingParams(temperature=1.0, seed=1))))
        (body,) = server.chats()
    known = {"model", "messages", "stream", "stream_options", "max_tokens", "temperature", "top_p"}
    assert body.keys() == known | {"seed"}


def test_half_a_surrogate_pair_and_a_seed_too_large_are_refused_before_anything_is_sent() -> None:
    with as_llama_cpp(HELLO) as server, served(server, "target.gguf") as loaded:
        with pytest.raises(RequestError, match="surrogate"):
            loaded.stream(turn("a\ud83d"))
        with pytest.raises(RequestError, match="seeds up to 4294967294"):
            loaded.stream(turn(sampling=SamplingParams(temperature=1.0, seed=2**40)))
        assert server.chats() == []
