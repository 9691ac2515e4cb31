"""What a benchmark asks in numbers: from the questions that were taken to the whole grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from dflash_app.store.benchmark_records import BenchmarkRecord

from .cells import methods
from .plan import Plan
from .remarks import Remark, remark


@dataclass(frozen=True, slots=True)
class Counts:
    """Factors of the number of prompts, and what they come from.

    Attributes:
        questions: of all data sets.
        turns: that those questions have: each is a prompt.
        methods: by which each turn is asked.
        repetitions: how often.
        levels: of concurrency, each measured on its own.
    """

    questions: int
    turns: int
    methods: int
    repetitions: int
    levels: int

    @property
    def num_prompts(self) -> int:
        """Of the whole grid."""
        return self.turns * self.methods * self.repetitions * self.levels


def count(plan: Plan, num_questions: Mapping[str, int], num_turns: Mapping[str, int]) -> Counts:
    """The counts of a plan.

    Args:
        plan: the grid.
        num_questions: that were taken, by data set.
        num_turns: that those have, by data set.
    """
    return Counts(
        questions=sum(num_questions.values()),
        turns=sum(num_turns.values()),
        methods=len(methods(plan)),
        repetitions=plan.repetitions,
        levels=len(plan.concurrency),
    )


def counts_of(record: BenchmarkRecord, plan: Plan) -> Counts:
    """The counts of a benchmark of the run log."""
    return count(plan, record.num_questions, record.num_prompts)


def say_counts(counts: Counts, say: Callable[[Remark], str] = str) -> str:
    """As "8 questions = 10 turns × 2 methods".

    Args:
        counts: what is asked.
        say: puts a remark into words; English without it.
    """
    told = {
        each.name: say(_counted(each.name, getattr(counts, each.name)))
        for each in fields(counts)
        if getattr(counts, each.name) != 1 or each.name in ("questions", "turns", "methods")
    }
    return f"{told.pop('questions')} = {' × '.join(told.values())}"


def _counted(name: str, number: int) -> Remark:
    return remark(f"count_{name}_one" if number == 1 else f"count_{name}", number=f"{number:,}")
