"""Answers in LaTeX brought to one form, so that equal ones are equal texts. None is evaluated."""

import re
from collections.abc import Iterator
from fractions import Fraction

MAX_CHARS = 2_000
"""Of an answer: a longer one is no answer."""

_MAX_DIGITS = 60
_MAX_BOXES = 50
"""Tried from the end: a reply of nothing but boxes that never close must not cost seconds."""
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_SPACES = re.compile(r"\\[,;:! ]|~|\\q?quad\b|\s+")
_DELETED = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![a-zA-Z])"
    r"|\$|\\[()\[\]]|\^(?:\\circ|\{\\circ\})|\\degree(?![a-zA-Z])|\\%|%|°"
)
_TEXT = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|textit|mathit|mbox|operatorname)\s*\{([^{}]*)\}"
)
_UNIT = re.compile(r"(?<=[\d}])\s*\\(?:text|mbox|mathrm)\s*\{[^{}]*\}(?:\^\{?\d\}?)?\s*$")
_EQUAL_TO = re.compile(r"^(?:[A-Za-z]|[A-Za-z]\([A-Za-z]\))(?:=|\\in)(?=.)")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?!\d)")
_DECIMAL = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
_FRACTION = re.compile(r"([-+]?)\\frac\{([^{}]+)\}\{([^{}]+)\}")
_SHORT_FRACTION = re.compile(r"\\frac(?:\{([^{}]*)\}|([0-9a-zA-Z]))(?:\{([^{}]*)\}|([0-9a-zA-Z]))")
_CHOICE = re.compile(r"^\(([A-Za-z])\)$")
_SLASH = re.compile(r"([-+]?)(\d+)/(\d+)")
_OPEN, _CLOSE = "([{", ")]}"


def boxed(text: str) -> str | None:
    """What stands in the last complete box of a text, None where there is none."""
    starts = [match.end() for match in _BOX.finditer(text)]
    for start in starts[: -_MAX_BOXES - 1 : -1]:
        inside = _in_braces(text, start)
        if inside is not None:
            return inside
    return None


def is_same_expression(one: str, other: str) -> bool:
    """Whether two answers are the same once written alike.

    A list without brackets ("1, -2") is the same in any order; a tuple or an interval is not.
    """
    first, second = normal_form(one), normal_form(other)
    if not first or not second:
        return False
    if _is_same_item(first, second):
        return True
    items, others = _items(first), _items(second)
    if len(items) != len(others):
        return False
    if len(items) > 1:
        return _is_permutation(items, others)
    return _is_same_in_brackets(first, second)


def normal_form(text: str) -> str:
    """An expression without what does not change its meaning: spacing, units, ways of writing."""
    text = text[: MAX_CHARS + 1].strip().rstrip(".")
    if len(text) > MAX_CHARS:
        return ""
    text = text.replace("−", "-").replace(r"\$", "").replace("{,}", ",").replace(r"\!", "")
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text)
    text = _UNIT.sub("", text.strip("$ "))
    text = _TEXT.sub(lambda match: match[1].strip(), text)
    text = _DELETED.sub("", text)
    text = _SPACES.sub("", text).rstrip(".")
    text = re.sub(r"\\sqrt(\d)", r"\\sqrt{\1}", text)
    text = re.sub(r"([_^])\{(\w)\}", r"\1\2", text)
    text = _SHORT_FRACTION.sub(_write_fraction, text)
    text = _SLASH.sub(r"\1\\frac{\2}{\3}", text)
    text = _EQUAL_TO.sub("", text)
    text = text.replace(r"\leq", r"\le").replace(r"\geq", r"\ge").replace(r"\neq", r"\ne")
    text = _CHOICE.sub(r"\1", text)
    return text.lower() if text.isalpha() else text


def as_number(text: str) -> Fraction | None:
    """The value of an answer that is a plain number or one fraction of two, else None."""
    text = normal_form(text)
    fraction = _FRACTION.fullmatch(text)
    if fraction:
        above, below = plain_number(fraction[2]), plain_number(fraction[3])
        if above is None or not below:
            return None
        return -above / below if fraction[1] == "-" else above / below
    return plain_number(text)


def plain_number(text: str) -> Fraction | None:
    """The value of a decimal number with or without thousands apart, else None."""
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text.replace("−", "-"))
    if len(text) > _MAX_DIGITS or not _DECIMAL.fullmatch(text):
        return None
    return Fraction(text)


def _in_braces(text: str, start: int) -> str | None:
    """What stands in the braces that open at `start`, or the bare character there."""
    if start >= len(text) or text[start] != "{":
        return text[start : start + 1] or None
    depth = 0
    for index in range(start, min(len(text), start + MAX_CHARS)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return text[start + 1 : index]
    return None


def _write_fraction(match: re.Match[str]) -> str:
    above = match[1] if match[1] is not None else match[2]
    below = match[3] if match[3] is not None else match[4]
    return f"\\frac{{{above}}}{{{below}}}"


def _is_same_item(one: str, other: str) -> bool:
    if one == other:
        return True
    first, second = as_number(one), as_number(other)
    return first is not None and first == second


def _is_permutation(items: list[str], others: list[str]) -> bool:
    left = list(others)
    for item in items:
        match = next((each for each in left if _is_same_item(item, each)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _is_same_in_brackets(one: str, other: str) -> bool:
    """Tuples, intervals and points: the same brackets, and the same items in their order."""
    brackets = (one[:1], one[-1:]) == (other[:1], other[-1:]) and one[:1] in _OPEN
    if not brackets or one[-1:] not in _CLOSE:
        return False
    items, others = _items(one[1:-1]), _items(other[1:-1])
    pairs = zip(items, others, strict=False)
    return len(items) == len(others) and all(_is_same_item(*pair) for pair in pairs)


def _items(text: str) -> list[str]:
    """What commas outside of all brackets keep apart; commas between thousands do not."""
    if plain_number(text) is not None:
        return [text]
    return ["".join(part) for part in _split(text)]


def _split(text: str) -> Iterator[list[str]]:
    part: list[str] = []
    depth = 0
    for character in text:
        depth += (character in _OPEN) - (character in _CLOSE)
        if character == "," and depth == 0:
            yield part
            part = []
        else:
            part.append(character)
    yield part
