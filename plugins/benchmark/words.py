"""What the tab says, in each language."""

from pathlib import Path

from dflash_app.ui.format import escape_html
from dflash_app.ui.language import Texts

from .remarks import WORDS, Remark

texts = Texts.load("benchmark", Path(__file__).with_name("texts.yaml"))
_remarks = Texts.load("benchmark-report", WORDS)


def say(key: str, **values: object) -> str:
    """The sentence, inert inside HTML."""
    return escape_html(texts.say(key, **values))


def say_remark(remark: Remark) -> str:
    """What a report remarks; not escaped."""
    return _remarks.say(remark.key, **remark.values)
