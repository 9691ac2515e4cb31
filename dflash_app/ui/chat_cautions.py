"""Where a drafter is known to lose, told before it does: thinking, language, long context."""

import unicodedata
from collections import Counter
from pathlib import Path

from dflash_app.registry.pair import Pair
from dflash_app.request import GenerationRequest
from dflash_app.ui.format import format_count
from dflash_app.ui.language import Texts
from dflash_app.ui.thinking import default_thinking

_texts = Texts.load("cautions", Path(__file__).with_name("texts") / "cautions.yaml")

_NUM_READ = 2_000
_LATIN = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "tr", "vi", "id")
_SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_LATIN, ("LATIN",)),
    **dict.fromkeys(("ru", "uk", "bg"), ("CYRILLIC",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("ARABIC",)),
    "zh": ("CJK",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL", "CJK"),
    "el": ("GREEK",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "th": ("THAI",),
}
"""The first words of Unicode's names of the letters that a language is written in."""


def cautions(pair: Pair, template: str | None, request: GenerationRequest) -> list[str]:
    """What is known to lower acceptance before a run begins.

    Args:
        pair: whose drafter is used.
        template: the target's chat template; None where it is not known.
        request: the turn.
    """
    if request.mode == "ar":
        return []
    told = []
    asked = request.thinking or (default_thinking(template) if template else None)
    if pair.thinking and asked and _differ(pair.thinking, asked):
        told.append(_texts.say("thinking", trained=_say(pair.thinking), asked=_say(asked)))
    if speaks_otherwise(pair.languages, request.messages[-1].content):
        names = ", ".join(_name(each) for each in pair.languages)
        told.append(_texts.say("language", languages=names))
    return told


def context_caution(pair: Pair, mode: str, num_tokens: int) -> str:
    """Told once a conversation is longer than what the drafter was trained on; else "".

    Args:
        pair: whose drafter is used.
        mode: "ar" or "dflash".
        num_tokens: of prompt and reply.
    """
    trained = pair.trained_context
    if mode == "ar" or trained is None or num_tokens <= trained:
        return ""
    tokens, most = format_count(num_tokens), format_count(trained)
    return _texts.say("context", tokens=tokens, trained=most)


def speaks_otherwise(languages: tuple[str, ...], text: str) -> bool:
    """Whether most letters of a text are of a script that none of the languages is written in.

    Languages that share a script are not told apart.
    """
    known = [_SCRIPTS[each] for each in languages if each in _SCRIPTS]
    letters = [each for each in text[-_NUM_READ:] if each.isalpha()]
    if len(known) < len(languages) or not known or not letters:
        return False
    scripts = Counter(unicodedata.name(each, "").partition(" ")[0] for each in letters)
    most = scripts.most_common(1)[0][0]
    return all(most not in scripts for scripts in known)


def _differ(trained: str, asked: str) -> bool:
    """A level differs from another level and from off; that it is on says no level."""
    return trained != asked and ("off" in (trained, asked) or "on" not in (trained, asked))


def _say(thinking: str) -> str:
    return _texts.say(thinking) if thinking in ("on", "off") else thinking


def _name(language: str) -> str:
    return _texts.say(language) if language in ("en", "zh") else language
