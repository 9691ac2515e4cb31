"""In which order a benchmark asks: both sides of a ratio stand next to each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dflash_app.hookspecs import Question
from dflash_app.store.benchmark_records import Asked

from .cells import Cell, methods
from .plan import Plan


@dataclass(frozen=True, slots=True)
class Task:
    """One question of one cell, in one repetition: all of its turns."""

    cell: Cell
    question: Question
    repetition: int

    def asked(self, turn: int) -> Asked:
        """The prompt of a turn."""
        return Asked(self.cell.key, self.question.id, self.repetition, turn)

    @property
    def prompts(self) -> tuple[Asked, ...]:
        """The prompts of all turns."""
        return tuple(self.asked(turn) for turn in range(len(self.question.turns)))


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that are asked with so many at a time, in this order."""

    concurrency: int
    tasks: tuple[Task, ...]


def schedule(
    plan: Plan, questions: Mapping[str, Sequence[Question]], share: int = 0, num_shares: int = 1
) -> Iterator[Batch]:
    """All tasks of one process, in order; the same every time.

    One at a time, the methods take turns on each question, and the next question begins with the
    one that came last: what changes while a benchmark runs (heat, other programs) touches all of
    them alike. With more at a time a cell is asked as a whole, and every other repetition turns
    the order.

    Args:
        plan: the grid.
        questions: by data set.
        share: which process, counts from 0: it takes every `num_shares`-th question.
        num_shares: processes that work side by side.
    """
    for dataset in plan.datasets:
        mine = questions[dataset][share::num_shares]
        for level in plan.concurrency:
            columns = [Cell(dataset, method, level) for method in methods(plan)]
            for repetition in range(plan.repetitions):
                if level == 1:
                    yield Batch(level, tuple(_by_turns(columns, mine, repetition)))
                    continue
                for cell in _turned(columns, repetition):
                    tasks = tuple(Task(cell, question, repetition) for question in mine)
                    yield Batch(level, tasks)


def _by_turns(
    columns: Sequence[Cell], questions: Sequence[Question], repetition: int
) -> Iterator[Task]:
    for position, question in enumerate(questions, start=repetition):
        for cell in _turned(columns, position):
            yield Task(cell, question, repetition)


def _turned(columns: Sequence[Cell], number: int) -> Sequence[Cell]:
    return columns[::-1] if number % 2 else columns
