"""Through the pair, with a tokenizer and a template: a chat's next turn reads only what is new."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.engine.local import LocalPair
from dflash_app.engine.prompt import encode_prompt
from dflash_app.engine.worker import Worker
from dflash_app.errors import GenerationFailed
from dflash_app.events import DecodeEvent, Finished, PrefillDone, TextDelta
from dflash_app.request import GenerationRequest, Message, Mode
from tests.backends.torch.turns import Turn, tiny_models, turn_of
from tests.engine.tiny_tokenizers import chat_tokenizer

TOKENIZER = chat_tokenizer()
THOUGHTLESS = GenerationRequest(
    messages=(Message("user", "How many divisors does 196 have?"),),
    max_new_tokens=12,
    mode="ar",
    thinking="off",
)


@pytest.fixture(params=["qwen3", "gpt_oss", "qwen3_5_text"])
def pair(
    request: pytest.FixtureRequest, make_drafter: Callable[..., DFlashDrafter]
) -> Iterator[LocalPair]:
    models = tiny_models(make_drafter, request.param, vocab_size=len(TOKENIZER))
    pair = LocalPair(
        name=request.param,
        backend="torch",
        tokenizer=TOKENIZER,
        models=models,
        worker=Worker("test-prefix"),
    )
    yield pair
    pair.close()


def following(request: GenerationRequest, events: Sequence[DecodeEvent]) -> GenerationRequest:
    reply = "".join(event.text for event in events if isinstance(event, TextDelta))
    messages = (*request.messages, Message("assistant", reply), Message("user", "And 200?"))
    return GenerationRequest(messages, 12, mode=request.mode, thinking="off")


@pytest.mark.parametrize("mode", ["ar", "dflash"])
def test_the_second_turn_of_a_chat_reads_no_message_of_the_first_again(
    pair: LocalPair, mode: Mode
) -> None:
    first = GenerationRequest(THOUGHTLESS.messages, 12, mode=mode, thinking="off")
    events = list(pair.stream(first))
    assert turn_of(events).num_reused == 0
    # The template ends the first reply's empty thinking, so its opening does not come back.
    closed = encode_prompt(TOKENIZER, first.messages, "off", open_turn=False)
    second = following(first, events)
    reused = turn_of(pair.stream(second))
    assert reused.num_reused is not None
    assert reused.num_reused >= len(closed)
    alone = turn_of(event for _, event in pair.race([second]))
    assert alone == Turn(reused.token_ids, 0)


def test_a_race_reuses_nothing_and_leaves_nothing(pair: LocalPair) -> None:
    list(pair.stream(THOUGHTLESS))
    requests = [THOUGHTLESS, GenerationRequest(THOUGHTLESS.messages, 12, thinking="off")]
    for _ in range(2):
        prefills = [event for _, event in pair.race(requests) if isinstance(event, PrefillDone)]
        assert [event.num_reused for event in prefills] == [0, 0]
    assert turn_of(pair.stream(THOUGHTLESS)).num_reused == 0


def test_a_chat_goes_on_after_a_stream_that_was_closed(pair: LocalPair) -> None:
    stream = pair.stream(THOUGHTLESS)
    assert isinstance(next(stream), PrefillDone)
    stream.close()
    whole = list(pair.stream(THOUGHTLESS))
    assert turn_of(whole).num_reused
    assert isinstance(whole[-1], Finished)


def test_a_chat_starts_anew_after_a_run_that_failed(
    pair: LocalPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = turn_of(pair.stream(THOUGHTLESS))

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("device-side assert")

    with monkeypatch.context() as patched:
        patched.setattr(pair._models.target, "forward", broken)
        with pytest.raises(GenerationFailed, match="device-side assert"):
            list(pair.stream(THOUGHTLESS))
    assert turn_of(pair.stream(THOUGHTLESS)) == before
