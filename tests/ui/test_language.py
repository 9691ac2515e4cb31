"""The page speaks the browser's language, and no sentence is missing in one of them."""

from pathlib import Path

import gradio as gr
import pytest
from gradio.context import LocalContext
from starlette.requests import Request

from dflash_app.errors import PluginError
from dflash_app.ui.language import LANGUAGES, Texts, choose_language, translations

ROOT = Path(__file__).resolve().parents[2]
HELLO = {"hello": {"en": "Hello {name}", "zh": "你好，{name}"}}


@pytest.mark.parametrize(
    ("asked", "spoken"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-tw;q=0.9", "zh"),
        ("fr, en;q=0.5, zh-CN;q=0.7", "en"),  # as Gradio's labels, which look at the first alone
        ("de-DE,de", "en"),
        ("zh-HK", "en"),
        ("EN-us", "en"),
    ],
)
def test_the_language_is_the_one_that_the_browsers_labels_are_in(asked: str, spoken: str) -> None:
    assert choose_language(asked) == spoken


def test_a_sentence_is_said_in_the_language_of_the_event_and_in_english_outside_of_one() -> None:
    texts = Texts("greeting", HELLO)
    assert texts.say("hello", name="Ada") == "Hello Ada"
    scope = {"type": "http", "headers": [(b"accept-language", b"zh-CN")]}
    token = LocalContext.request.set(gr.Request(Request(scope)))
    try:
        assert texts.say("hello", name="Ada") == "你好，Ada"
    finally:
        LocalContext.request.reset(token)


def test_an_entry_without_a_language_or_with_other_values_is_refused() -> None:
    with pytest.raises(PluginError, match=r"greeting\.hello.*missing in zh"):
        Texts("greeting", {"hello": {"en": "Hello"}})
    with pytest.raises(PluginError, match="fills in other values in zh"):
        Texts("greeting", {"hello": {"en": "Hello {name}", "zh": "你好"}})


def test_a_label_is_a_key_that_the_browser_knows_in_every_language(tmp_path: Path) -> None:
    path = tmp_path / "texts.yaml"
    path.write_text("hello: {en: Hello, zh: 你好}\n", encoding="utf-8")
    texts = Texts.load("test-language", path)
    assert texts.label("hello").key == "test-language.hello"
    known = translations().translations
    assert known["en"]["test-language.hello"] == "Hello"
    assert known["zh"]["test-language.hello"] == "你好"
    with pytest.raises(KeyError):
        texts.label("goodbye")


def test_every_shipped_file_is_whole_in_every_language() -> None:
    files = [
        *(ROOT / "dflash_app/ui/texts").glob("*.yaml"),
        *(ROOT / "plugins").glob("*/texts.yaml"),
    ]
    assert files
    for path in files:
        texts = Texts.load(f"check-{path.parent.name}-{path.stem}", path)
        sizes = {len(texts.entries(language)) for language in LANGUAGES}
        assert len(sizes) == 1 and sizes != {0}, path
