"""Counts as a server tells them, which may be anything."""

from itertools import accumulate
from typing import Any

_LARGEST = 2**53
"""Above it JSON's numbers are not whole any more."""
_MOST_DRAFTS = 1024
"""Of a step: what is kept and drawn for each position needs a limit."""


def by_position(histogram: tuple[int, ...]) -> tuple[int, ...]:
    """For each draft position, the steps that accepted it, out of steps by accepted drafts."""
    return tuple(accumulate(reversed(histogram[1:])))[::-1]


def number(value: Any) -> int | None:
    """A count as a server tells it; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        return None
    return int(value)


def numbers(values: Any) -> tuple[int, ...]:
    """Counts in a row; empty where one is none."""
    found = [number(value) for value in values] if isinstance(values, list) else [None]
    return () if None in found else tuple(each for each in found if each is not None)


def histogram_of(values: Any) -> tuple[int, ...]:
    """Steps by accepted drafts; empty where it is none, or of more drafts than any engine makes."""
    found = numbers(values)
    return found if len(found) <= _MOST_DRAFTS + 1 else ()


def seconds(milliseconds: Any) -> float | None:
    """A time as a server tells it; None where it is none."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    return milliseconds / 1000 if 0 <= milliseconds < _LARGEST else None
