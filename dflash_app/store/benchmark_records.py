"""What the rows of benchmarks hold, and how they are read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dflash_app.errors import StoreCorrupt
from dflash_app.store.records import RunRecord, read_record

ENDED_WELL = "finish_reason IN ('stop', 'length')"
"""The condition of a run that counts: it ended by itself."""


@dataclass(frozen=True, slots=True)
class BenchmarkRecord:
    """One benchmark as it stands in the database.

    Attributes:
        id: counts up and is never given twice.
        plan: as it was created.
        num_questions: of each data set.
        num_prompts: of each data set, in one pass: a question has as many as turns.
        num_answered: prompts whose run ended by itself, of the whole grid.
        running: a live process works on it.
        hardware: of the machine that created it.
        owner: the visitor of a public page whose it is; None: this machine's own.
        created_at: UTC.
        finished_at: UTC; None while prompts are left.
    """

    id: int
    plan: dict[str, Any]
    num_questions: dict[str, int]
    num_prompts: dict[str, int]
    num_answered: int
    running: bool
    hardware: dict[str, Any]
    library_versions: dict[str, str]
    app_version: str
    owner: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Asked:
    """Which prompt of a benchmark a run answers.

    Attributes:
        cell: key of its place in the grid.
        question_id: unique within the cell's data set.
        repetition: counts from 0.
        turn: of the question, counts from 0.
    """

    cell: str
    question_id: str
    repetition: int
    turn: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What a page draws of a prompt that is answered, while others are asked.

    Attributes:
        asked: the prompt.
        decode_tok_s: None where it is not known.
        mean_acceptance_length: likewise, and where nothing drafts.
    """

    asked: Asked
    decode_tok_s: float | None
    mean_acceptance_length: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A run of a benchmark.

    Attributes:
        asked: what it answers.
        share: which of the processes that worked side by side asked, counts from 0.
        began_at: when decoding began, seconds since 1970.
        score: 1 right, 0 wrong; None where nothing was checked.
        record: the run, without its token ids: of thousands of runs they would fill the memory.
    """

    asked: Asked
    share: int
    began_at: float
    score: float | None
    record: RunRecord

    @property
    def complete(self) -> bool:
        """Whether the run ended by itself: only then it counts, and is not asked again."""
        return self.record.finish_reason in ("stop", "length")


def read_answer(row: Mapping[str, Any]) -> Answer:
    """A row of `benchmark_runs` joined to that of its run.

    Raises:
        StoreCorrupt: a column cannot be read.
    """
    return Answer(
        Asked(row["cell"], row["question_id"], row["repetition"], row["turn"]),
        share=row["share"],
        began_at=row["began_at"],
        score=row["score"],
        record=read_record(row),
    )


def read_benchmark(
    row: Mapping[str, Any],
    counted: Sequence[tuple[str, int, int]],
    num_answered: int,
    *,
    running: bool,
) -> BenchmarkRecord:
    """A row of `benchmarks` with what was counted of it.

    Args:
        row: of the table.
        counted: of each data set its name, questions and turns.
        num_answered: prompts whose run ended by itself.
        running: a live process works on it.

    Raises:
        StoreCorrupt: a column cannot be read.
    """
    finished_at = row["finished_at"]
    try:
        return BenchmarkRecord(
            id=row["id"],
            plan=json.loads(row["plan"]),
            num_questions={name: questions for name, questions, _ in counted},
            num_prompts={name: turns for name, _, turns in counted},
            num_answered=num_answered,
            running=running,
            hardware=json.loads(row["hardware"]),
            library_versions=json.loads(row["library_versions"]),
            app_version=row["app_version"],
            owner=row["owner"],
            created_at=datetime.fromisoformat(row["created_at"]),
            finished_at=None if finished_at is None else datetime.fromisoformat(finished_at),
        )
    except (ValueError, TypeError) as error:
        raise StoreCorrupt(f"benchmark {row['id']} is damaged: {error}") from error
