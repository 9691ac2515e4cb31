r"""Whether a reply comes to the right answer, by its text alone. No reply is ever executed.

A reply's answer is what stands in its last `\boxed{...}`, or else in its last **bold** text. The
prompts of gsm8k and math500 ask for the box; the embedded pair was taught bold.
"""

import re
from fractions import Fraction

from .latex import as_number, boxed, is_same_expression, plain_number

_BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_NUMBER = re.compile(r"[-+−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")


def is_exact(reply: str, answer: str) -> bool:
    """Whether the marked answer of a reply, or else all of it, is the answer, word for word."""
    marked = _marked(reply)
    return _words(reply if marked is None else marked) == _words(answer)


def is_number(reply: str, answer: str) -> bool:
    """Whether a reply comes to a number: marked, or else the last one in its text (gsm8k)."""
    wanted = _last_number(answer)
    return wanted is not None and _final_number(reply) == wanted


def is_maths(reply: str, answer: str) -> bool:
    r"""Whether a reply's box, or else its bold text, holds an expression (math500).

    Both are brought to one form: spacing, units, `\dfrac`, `0.5` and `\frac{1}{2}`. Algebra is not
    done: `x(x+1)` is not `x^2+x` here, so a right reply may be counted as wrong, in every method
    alike.
    """
    marked = _marked(reply)
    return marked is not None and is_same_expression(marked, answer)


def _marked(reply: str) -> str | None:
    found = boxed(reply)
    if found is None:
        bold = _BOLD.findall(reply)
        found = bold[-1] if bold else None
    return found


def _final_number(reply: str) -> Fraction | None:
    """The number of the box, else of the bold text, else the last of all."""
    for place in (boxed(reply), *reversed(_BOLD.findall(reply)), reply):
        if place is None:
            continue
        number = as_number(place)
        if number is None:
            number = _last_number(place)
        if number is not None:
            return number
    return None


def _last_number(text: str) -> Fraction | None:
    found = _NUMBER.findall(text)
    return plain_number(found[-1].rstrip(",")) if found else None


def _words(text: str) -> str:
    return " ".join(text.split())
