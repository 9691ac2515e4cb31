"""The words of the page, in each language: one YAML file a surface, read by browser and server.

What is built once for all browsers (labels, buttons, placeholders) is a key that Gradio's own
translation fills in the browser. What is written while an event is answered (figures, notices) is
said in the language that this event's browser asked for. Both come from the same file.

Gradio 6.31 fills in keys in: label, info and placeholder of every component, the text of a Button,
the titles of Tab and Accordion, the names of choices (Dropdown, Radio, CheckboxGroup), a Chatbot's
placeholder, a whole Markdown or HTML value; when the page is built and in a later update alike. In
a longer text it fills in the first key: `f"{label} (16)"` is one choice's name. It leaves alone a
Dataframe's headers and what lies inside other values: a handler says those, where need be one of
the page's `load`.
"""

from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Any, Self

import gradio as gr
import yaml
from gradio.context import LocalContext
from gradio.i18n import I18nData

from dflash_app.errors import PluginError

LANGUAGES = ("en", "zh")
"""The first is spoken where a browser asks for none of them, and by the terminal."""

_LOCALES = {"zh-cn": "zh", "zh-tw": "zh"}
"""Browsers whose Gradio speaks a language of ours: in all others it falls back to the first."""

_loaded: dict[str, "Texts"] = {}


class Texts:
    """What one surface says, by key and language.

    Attributes:
        name: of the surface; unique, as it begins the keys in the browser.
    """

    def __init__(self, name: str, entries: Mapping[str, Mapping[str, str]]) -> None:
        """Check and keep the entries.

        Raises:
            PluginError: an entry lacks a language, or its languages fill in other values.
        """
        self.name = name
        self._entries = {key: _checked(f"{name}.{key}", entry) for key, entry in entries.items()}

    @classmethod
    def load(cls, name: str, path: Path) -> Self:
        """Read a surface's file (`key: {en: ..., zh: ...}`) and make it known to the page.

        Call it where the surface's module is imported.

        Raises:
            PluginError: see `Texts`.
        """
        return cls.know(name, yaml.safe_load(path.read_text(encoding="utf-8")))

    @classmethod
    def know(cls, name: str, entries: Mapping[str, Mapping[str, str]]) -> Self:
        """Make entries known to the page that no file holds, such as the titles of plugins' tabs.

        Raises:
            PluginError: see `Texts`.
        """
        texts = cls(name, entries)
        _loaded[name] = texts
        return texts

    def label(self, key: str) -> Any:
        """A key that the browser replaces: for what is built once, without values filled in."""
        self._entries[
            key
        ]  # a missing key is found when the page is built, not when it is looked at
        return I18nData(f"{self.name}.{key}")

    def say(self, key: str, **values: object) -> str:
        """The sentence in the language of the browser whose event is being answered.

        Args:
            key: of the entry.
            values: fill its `{names}`; they are not escaped.
        """
        return self._entries[key][spoken_language()].format(**values)

    def entries(self, language: str) -> dict[str, str]:
        """All sentences in one language, by the key that the browser uses."""
        return {f"{self.name}.{key}": entry[language] for key, entry in self._entries.items()}


def translations() -> gr.I18n:
    """Every surface that was loaded, for `launch(i18n=...)`; ask once the page is built."""
    words: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for texts in _loaded.values():
        for language in LANGUAGES:
            words[language] |= texts.entries(language)
    return gr.I18n(**words)


def spoken_language() -> str:
    """The language of the browser whose event is being answered; English outside of one."""
    request = LocalContext.request.get(None)
    headers = getattr(request, "headers", None)
    asked = headers.get("accept-language", "") if headers is not None else ""
    return choose_language(asked)


def choose_language(accept_language: str) -> str:
    """The language of the labels in a browser that sends "zh-CN,zh;q=0.9,en;q=0.8".

    Gradio's script looks at the browser's first language alone, so what is said does the same:
    a page in two languages would be worse than one in the second best.
    """
    first = accept_language.partition(",")[0].partition(";")[0].strip()
    return _LOCALES.get(first.lower(), LANGUAGES[0])


def _checked(key: str, entry: Mapping[str, str]) -> dict[str, str]:
    missing = [language for language in LANGUAGES if not isinstance(entry.get(language), str)]
    if missing:
        raise PluginError(f"The text {key!r} is missing in {', '.join(missing)}: add it.")
    wanted = _names(entry[LANGUAGES[0]])
    for language in LANGUAGES[1:]:
        if _names(entry[language]) != wanted:
            raise PluginError(f"The text {key!r} fills in other values in {language}: mend it.")
    return {language: entry[language] for language in LANGUAGES}


def _names(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}
