"""A known loss is told, and nothing that is not known."""

import pytest

from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.request import GenerationRequest, Message
from dflash_app.ui.chat_cautions import cautions, context_caution, speaks_otherwise

PAIR = Pair(
    name="x",
    title="X",
    family="qwen3",
    target=ModelRef(repo="a/b"),
    drafter=ModelRef(repo="a/c"),
    thinking="off",
    languages=("en",),
    trained_context=3072,
)
QWEN3 = "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"


def ask(text: str = "Hi", thinking: str | None = None, mode: str = "dflash") -> GenerationRequest:
    messages = (Message("user", text),)
    return GenerationRequest(messages, thinking=thinking, mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trained", "asked", "template", "differs"),
    [
        ("off", "on", None, True),
        ("off", "off", None, False),
        ("off", None, None, False),
        ("off", None, QWEN3, True),
        ("on", None, QWEN3, False),
        ("on", "high", None, False),
        ("off", "high", None, True),
        ("medium", "high", None, True),
        ("medium", "on", None, False),
        ("medium", "off", None, True),
        (None, "on", None, False),
    ],
)
def test_thinking_that_a_drafter_was_not_trained_with_is_told(
    trained: str | None, asked: str | None, template: str | None, differs: bool
) -> None:
    pair = PAIR.model_copy(update={"thinking": trained})
    assert bool(cautions(pair, template, ask(thinking=asked))) == differs


@pytest.mark.parametrize(
    ("languages", "text", "otherwise"),
    [
        (("en",), "这是什么意思？ok", True),
        (("en",), "Что это?", True),
        (("en",), "Qu'est-ce que c'est ?", False),
        (("en",), "12 + 7 = ?", False),
        (("en", "zh"), "这是什么意思？", False),
        (("ja",), "これは何ですか", False),
        (("en", "tlh"), "这是什么意思？", False),
        ((), "这是什么意思？", False),
    ],
)
def test_another_script_than_the_drafters_is_told(
    languages: tuple[str, ...], text: str, otherwise: bool
) -> None:
    assert speaks_otherwise(languages, text) == otherwise


def test_plain_decoding_has_no_drafter_to_lose() -> None:
    assert cautions(PAIR, QWEN3, ask("这是什么意思？", "on", mode="ar")) == []
    assert context_caution(PAIR, "ar", 9000) == ""


def test_a_conversation_longer_than_the_training_is_told() -> None:
    assert context_caution(PAIR, "dflash", 3072) == ""
    assert "takes 3,073 tokens" in context_caution(PAIR, "dflash", 3073)
    unknown = PAIR.model_copy(update={"trained_context": None})
    assert context_caution(unknown, "dflash", 10**6) == ""
