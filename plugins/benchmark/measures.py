"""Figures of the same prompts in two results, over any draw of their questions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from .results import PromptRow

Values = tuple[float, float]
"""Of a figure: before and after."""


@dataclass(frozen=True, slots=True)
class Both:
    """One prompt in both results, with plain decoding's rows of it where they are known."""

    old: PromptRow
    new: PromptRow
    old_plain: PromptRow | None
    new_plain: PromptRow | None


class Measured(Protocol):
    """A figure over questions, by their index."""

    num_questions: int

    def over(self, draw: Iterable[int]) -> Values | None:
        """Its values over the questions drawn, some of them several times; None: unknown."""


class Sums:
    """All of one amount by all of another, over the prompts of which both results tell both."""

    def __init__(self, questions: Iterable[Sequence[Both]], parts: "_Parts") -> None:
        found = [[told for both in each if (told := parts(both))] for each in questions]
        by_question = [list(map(sum, zip(*each, strict=True))) for each in found if each]
        self.num_questions = len(by_question)
        self._columns = list(zip(*by_question, strict=True))

    def over(self, draw: Iterable[int]) -> Values | None:
        drawn = list(draw)
        sums = [sum(map(column.__getitem__, drawn)) for column in self._columns]
        return (sums[0] / sums[1], sums[2] / sums[3]) if sums and sums[1] and sums[3] else None


class Medians:
    """The medians of a value of each prompt."""

    def __init__(
        self, questions: Iterable[Sequence[Both]], value: Callable[[Both], Values | None]
    ) -> None:
        found = [[told for both in each if (told := value(both))] for each in questions]
        self._by_question = [each for each in found if each]
        self.num_questions = len(self._by_question)

    def over(self, draw: Iterable[int]) -> Values | None:
        values = [each for index in draw for each in self._by_question[index]]
        if not values:
            return None
        return median(old for old, _ in values), median(new for _, new in values)


_Parts = Callable[[Both], tuple[float, float, float, float] | None]
"""Of a prompt: what is divided and by what, before and after."""


def measures(questions: Sequence[Sequence[Both]]) -> dict[str, Measured]:
    """Every figure of some questions, each a list of its prompts."""
    return {
        "speedup": Medians(questions, _speedups),
        "decoding": Sums(questions, _decoding),
        "end to end": Sums(questions, _end_to_end),
        "acceptance": Sums(questions, _acceptance),
        "right": Sums(questions, _right),
        "same text as AR": Sums(questions, _same_as_plain),
    }


def _speedups(both: Both) -> Values | None:
    """The decoding speed's ratio to plain decoding of the same prompt."""
    if both.old_plain is None or both.new_plain is None:
        return None
    old, old_plain = both.old.decode_tok_s, both.old_plain.decode_tok_s
    new, new_plain = both.new.decode_tok_s, both.new_plain.decode_tok_s
    return (old / old_plain, new / new_plain) if old and old_plain and new and new_plain else None


def _decoding(both: Both) -> tuple[float, float, float, float] | None:
    """Tokens after the first by the seconds that they took."""
    old_s, new_s = _decode_s(both.old), _decode_s(both.new)
    old, new = both.old.decode_tok_s, both.new.decode_tok_s
    return (old_s * old, old_s, new_s * new, new_s) if old_s and old and new_s and new else None


def _end_to_end(both: Both) -> tuple[float, float, float, float] | None:
    old, old_s = both.old.num_output_tokens, both.old.total_s
    new, new_s = both.new.num_output_tokens, both.new.total_s
    return (old, old_s, new, new_s) if old and old_s and new and new_s else None


def _acceptance(both: Both) -> tuple[float, float, float, float] | None:
    old, old_steps = both.old.mean_acceptance_length, both.old.num_steps
    new, new_steps = both.new.mean_acceptance_length, both.new.num_steps
    if not (old and old_steps and new and new_steps):
        return None
    return old * old_steps, old_steps, new * new_steps, new_steps


def _right(both: Both) -> tuple[float, float, float, float] | None:
    old, new = both.old.score, both.new.score
    return None if old is None or new is None else (old, 1, new, 1)


def _same_as_plain(both: Both) -> tuple[float, float, float, float] | None:
    if both.old_plain is None or both.new_plain is None:
        return None
    old = both.old.output_digest == both.old_plain.output_digest
    new = both.new.output_digest == both.new_plain.output_digest
    return old, 1, new, 1


def _decode_s(row: PromptRow) -> float | None:
    return None if row.total_s is None or row.ttft_s is None else row.total_s - row.ttft_s
