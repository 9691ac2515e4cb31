"""Rows of two cells that answer the same prompt."""

from collections.abc import Iterable

from .results import PromptRow

Prompt = tuple[str, int, int]
"""Question, repetition and turn."""


def complete(rows: Iterable[PromptRow]) -> dict[Prompt, PromptRow]:
    """The rows whose run ended by itself, by their prompt: only they count."""
    return {
        (row.question_id, row.repetition, row.turn): row
        for row in rows
        if row.finish_reason in ("stop", "length")
    }


def pair_up(
    rows: Iterable[PromptRow], others: Iterable[PromptRow]
) -> list[tuple[PromptRow, PromptRow]]:
    """Both rows of each prompt that both answered, in the order of the first ones."""
    found = complete(others)
    return [(row, found[key]) for key, row in complete(rows).items() if key in found]
