"""In which script a text is written, as far as its letters tell."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

LOOKED_AT = 4000
"""Characters of a text that are looked at."""
LEAST_LETTERS = 20
LEAST_SHARE = 0.3
"""Share of the letters that one script other than Latin must have to be the text's: names, code
and formulas are Latin in every language."""


_SCRIPTS = {
    "ar": "Arabic", "de": "Latin", "el": "Greek", "en": "Latin", "es": "Latin", "fr": "Latin",
    "he": "Hebrew", "hi": "Devanagari", "it": "Latin", "ja": "Han or Kana", "ko": "Hangul",
    "pt": "Latin", "ru": "Cyrillic", "th": "Thai", "zh": "Han or Kana",
}  # fmt: skip


def written_in(languages: Sequence[str], script: str) -> bool | None:
    """Whether one of some languages (codes as "en") is written so; None where that is not known."""
    if not languages or not all(language in _SCRIPTS for language in languages):
        return None
    return script in {_SCRIPTS[language] for language in languages}


def main_script(text: str) -> str | None:
    """The script that a text is written in ("Latin", "Han", "Cyrillic"); None for too few letters.

    Han, Hiragana and Katakana count as one, "Han or Kana": they are mixed in one sentence.
    """
    letters = [letter for letter in text[:LOOKED_AT] if letter.isalpha()]
    if len(letters) < LEAST_LETTERS:
        # A Chinese character says as much as a word.
        letters = [letter for letter in letters if _script(letter) != "Latin"]
        if len(letters) < LEAST_LETTERS // 4:
            return None
    counts = Counter(map(_script, letters))
    others = {script: count for script, count in counts.items() if script != "Latin"}
    other = max(others, key=others.__getitem__, default=None)
    if other is not None and others[other] >= LEAST_SHARE * len(letters):
        return other
    return "Latin"


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    word = unicodedata.name(letter, "OTHER").split(maxsplit=1)[0]
    if word in ("CJK", "HIRAGANA", "KATAKANA"):
        return "Han or Kana"
    return word.capitalize()
