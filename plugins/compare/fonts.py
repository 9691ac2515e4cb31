"""Text in a picture: the first font of this machine that has a character draws it."""

import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import groupby

from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

FALLBACKS = (
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "NotoSansSC-Regular.ttf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "simsun.ttc",
    "NotoEmoji-Regular.ttf",
    "Symbola.ttf",
    "seguiemj.ttf",
)
"""File names, looked for where the system keeps its fonts, after the one that Pillow brings."""

MISSING = "\N{WHITE SQUARE}"
"""Stands for a character that no font has, where at least this one can be drawn."""

_NOBODY_HAS = "\U0010fffd"


@cache
def fonts(size: int) -> tuple[FreeTypeFont, ...]:
    """The fonts that are here, in one size; the first is Pillow's own."""
    own = ImageFont.load_default(size)
    found = [own] if isinstance(own, FreeTypeFont) else []
    for name in FALLBACKS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


def clean(text: str) -> str:
    """One line without what no font draws: controls, joiners, variation selectors."""
    spaced = "".join(" " if each.isspace() else each for each in text)
    return "".join(
        each
        for each in spaced
        if unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Co", "Cn")
        and not 0xFE00 <= ord(each) <= 0xFE0F
    )


def num_undrawn(text: str) -> int:
    """Characters of a cleaned text that no font here has."""
    return sum(_index_for(each) is None for each in text)


def width(text: str, size: int) -> float:
    """Pixels that a cleaned text takes."""
    return sum(font.getlength(part) for font, part in _runs(text, size))


def draw_text(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: str
) -> None:
    """Draw a cleaned text; `place` is the left end of its baseline."""
    x, y = place
    for font, part in _runs(text, size):
        draw.text((x, y), part, fill=colour, font=font, anchor="ls")
        x += font.getlength(part)


def wrap(text: str, size: int, limit: float, max_lines: int) -> list[str]:
    """A cleaned text in lines of at most `limit` pixels, the last one with an ellipsis if cut."""
    lines, line = [], ""
    for word in _words(text):
        if width(line + word, size) <= limit:
            line += word
            continue
        if line.strip():
            lines.append(line.strip())
        line = word.lstrip()
    lines.append(line.strip())
    if len(lines) <= max_lines:
        return lines
    last = lines[max_lines - 1]
    while last and width(f"{last}…", size) > limit:
        last = last[:-1]
    return [*lines[: max_lines - 1], f"{last}…"]


def _words(text: str) -> Iterator[str]:
    """Pieces after which a line may end: a word with the space before it, or one wide character."""
    word = ""
    for each in text:
        wide = unicodedata.east_asian_width(each) in "WF"
        if word and (each == " " or wide or len(word) > 40):
            yield word
            word = ""
        word += each
    if word:
        yield word


def _runs(text: str, size: int) -> Iterator[tuple[FreeTypeFont, str]]:
    """Parts of a text that one font draws."""
    here, mark = fonts(size), _index_for(MISSING)
    for index, group in groupby(text, _index_for):
        part = "".join(group)
        if index is None:
            yield here[mark or 0], ("?" if mark is None else MISSING) * len(part)
        else:
            yield here[index], part


@cache
def _index_for(character: str) -> int | None:
    """The first font that has a character; None where none has."""
    if character == " ":
        return 0
    for index, font in enumerate(fonts(24)):
        if _pixels(font, character) != _pixels(font, _NOBODY_HAS):
            return index
    return None


def _pixels(font: FreeTypeFont, character: str) -> bytes:
    image = Image.new("L", (64, 64))
    ImageDraw.Draw(image).text((8, 48), character, fill=255, font=font, anchor="ls")
    return image.tobytes()
