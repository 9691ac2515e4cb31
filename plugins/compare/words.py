"""What the race says, in each language."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from dflash_app.ui.language import LANGUAGES, Texts, spoken_language

_forced: ContextVar[str | None] = ContextVar("forced", default=None)


class RaceTexts(Texts):
    """Texts that can be said in another language than the browser's."""

    def say(self, key: str, **values: object) -> str:
        """The sentence, in the language that `speaking_drawable` has chosen, else the browser's."""
        language = _forced.get()
        if language is None:
            return super().say(key, **values)
        return self.entries(language)[f"{self.name}.{key}"].format(**values)


texts = RaceTexts.load("compare", Path(__file__).with_name("texts.yaml"))


@contextmanager
def speaking_drawable(is_drawable: Callable[[str], bool]) -> Iterator[None]:
    """Speak the first language where a picture's fonts cannot draw the browser's."""
    drawable = is_drawable("".join(texts.entries(spoken_language()).values()))
    token = _forced.set(None if drawable else LANGUAGES[0])
    try:
        yield
    finally:
        _forced.reset(token)
