"""A benchmark's results as one value: by cell, with a row for each prompt; to JSON and back."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dflash_app.errors import RequestError
from dflash_app.store.benchmark_records import Answer, BenchmarkRecord
from dflash_app.store.runs import Store

from .cells import Cell, cells
from .figures import AgainstPlain, Figures, fold, hold_against
from .plan import Plan, read_plan
from .question_sets import digest, read_question

FORMAT: Final = 1
_DIGEST_CHARS = 16


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt of a cell; None means unknown.

    Attributes:
        question_id: unique within the data set.
        repetition: counts from 0.
        turn: of the question, counts from 0.
        run_id: in the run log of the machine that measured.
        finish_reason: "stop", "length", or how else the run ended; None while it goes on.
        error: what failed.
        score: 1 right, 0 wrong.
        output_digest: of the answer's text: equal where two answers are the same.
    """

    question_id: str
    repetition: int
    turn: int
    run_id: int
    finish_reason: str | None
    error: str | None
    num_prompt_tokens: int | None
    num_output_tokens: int | None
    num_steps: int | None
    queue_s: float | None
    ttft_s: float | None
    total_s: float | None
    tpot_s: float | None
    decode_tok_s: float | None
    mean_acceptance_length: float | None
    score: float | None
    output_digest: str


@dataclass(frozen=True, slots=True)
class Where:
    """What a method ran on; several where it was resumed elsewhere or ran on several GPUs.

    Attributes:
        backend: "torch", "mlx", "remote".
        device: "cpu", "cuda:0", or a server's host and port.
        precision: as "nf4 in bfloat16"; "server" where a server keeps it.
        paths: how target and drafter decoded, or the server's engine.
        target_revision: commit of the target's files.
        drafter_revision: commit of the drafter's files.
        block_size: anchor included; None in AR.
    """

    backend: str
    device: str
    precision: str
    paths: str | None
    target_revision: str | None
    drafter_revision: str | None
    block_size: int | None


@dataclass(frozen=True, slots=True)
class CellResult:
    """What one cell measured.

    Attributes:
        dataset: its name.
        method: key of the way of decoding, as `cells.Method` has it.
        label: that in words.
        concurrency: requests at a time.
        num_prompts: prompts that the plan asks, repetitions included.
        figures: see `Figures`.
        against_plain: see `AgainstPlain`; None for plain decoding and where the plan has none.
        where: what it ran on.
        rows: by question, repetition and turn.
    """

    dataset: str
    method: str
    label: str
    concurrency: int
    num_prompts: int
    figures: Figures
    against_plain: AgainstPlain | None
    where: tuple[Where, ...]
    rows: tuple[PromptRow, ...]


@dataclass(frozen=True, slots=True)
class BenchmarkResults:
    """Everything that a report, a chart or a comparison needs.

    Attributes:
        format: of the JSON.
        benchmark_id: in the database of the machine that measured.
        created_at: UTC.
        finished_at: UTC; None where prompts are left.
        question_digests: by data set, a fingerprint of what was asked, in which order.
        hardware: see `store.fingerprint`; of this machine, not of a server.
        cells: in the order of the plan's grid.
        num_questions: that were taken, by data set; empty in files of earlier versions.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: Literal[1]
    benchmark_id: int
    created_at: datetime
    finished_at: datetime | None
    plan: Plan
    question_digests: dict[str, str]
    hardware: dict[str, Any]
    library_versions: dict[str, str]
    app_version: str
    cells: tuple[CellResult, ...]
    num_questions: dict[str, int] = field(default_factory=dict)

    def cell(self, dataset: str, method: str, concurrency: int) -> CellResult | None:
        """The cell at a place of the grid, None where the plan has none there."""
        place = dataset, method, concurrency
        found = (each for each in self.cells if _place(each) == place)
        return next(found, None)


def results(store: Store, benchmark_id: int) -> BenchmarkResults:
    """What a benchmark has measured so far.

    Raises:
        StoreError: there is none with this id.
    """
    record = store.benchmarks.get(benchmark_id)
    plan = read_plan(record.plan)
    by_cell: dict[str, list[Answer]] = {}
    for answer in store.benchmarks.answers(benchmark_id):
        by_cell.setdefault(answer.asked.cell, []).append(answer)
    return BenchmarkResults(
        format=FORMAT,
        benchmark_id=benchmark_id,
        created_at=record.created_at,
        finished_at=record.finished_at,
        plan=plan,
        question_digests={
            name: digest([read_question(each) for each in asked])
            for name, asked in store.benchmarks.questions(benchmark_id).items()
        },
        hardware=record.hardware,
        library_versions=record.library_versions,
        app_version=record.app_version,
        cells=_cells(plan, record, by_cell),
        num_questions=record.num_questions,
    )


def to_json(found: BenchmarkResults) -> str:
    """As JSON text that `read_results` takes back."""
    return TypeAdapter(BenchmarkResults).dump_json(found, indent=2).decode()


def read_results(path: Path) -> BenchmarkResults:
    """Results that `to_json` wrote.

    Raises:
        RequestError: the file cannot be read, or is none of this version's.
    """
    try:
        return TypeAdapter(BenchmarkResults).validate_json(path.read_bytes())
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}): name another.") from error
    except RequestError as error:  # of the plan's own checks
        raise RequestError(f"{path} holds no results of a benchmark: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its beginning"
        raise RequestError(
            f"{path} holds no results of a benchmark (at {place}: {first['msg']}): name the "
            "results.json that `dflash-app benchmark --out` writes."
        ) from error


def _cells(
    plan: Plan, record: BenchmarkRecord, by_cell: Mapping[str, Sequence[Answer]]
) -> tuple[CellResult, ...]:
    grid = cells(plan)
    figures = {cell.key: fold(by_cell.get(cell.key, ())) for cell in grid}
    found = []
    for cell in grid:
        answers = by_cell.get(cell.key, ())
        plain = _plain_of(cell, grid)
        against = None
        if plain is not None:
            against = hold_against(
                answers, figures[cell.key], by_cell.get(plain.key, ()), figures[plain.key]
            )
        found.append(
            CellResult(
                dataset=cell.dataset,
                method=cell.method.key,
                label=cell.method.label,
                concurrency=cell.concurrency,
                num_prompts=record.num_prompts.get(cell.dataset, 0) * plan.repetitions,
                figures=figures[cell.key],
                against_plain=against,
                where=_where(answers),
                rows=tuple(sorted(map(_row, answers), key=_prompt)),
            )
        )
    return tuple(found)


def _plain_of(cell: Cell, grid: Sequence[Cell]) -> Cell | None:
    """Plain decoding of the same prompts, for every cell but that one."""
    same = (each for each in grid if each.method.key == "ar" and _beside(each, cell))
    found = next(same, None)
    return None if found == cell else found


def _beside(one: Cell, other: Cell) -> bool:
    return (one.dataset, one.concurrency) == (other.dataset, other.concurrency)


def _where(answers: Sequence[Answer]) -> tuple[Where, ...]:
    starts = [each.record.start for each in answers]
    found = [
        Where(
            backend=start.backend,
            device=start.device,
            precision=start.precision,
            paths=start.paths,
            target_revision=start.target_revision,
            drafter_revision=start.drafter_revision,
            block_size=start.block_size,
        )
        for start in starts
    ]
    return tuple(dict.fromkeys(found))


def _row(answer: Answer) -> PromptRow:
    asked, record = answer.asked, answer.record
    figures = asdict(record.metrics)
    told = (
        "num_prompt_tokens", "num_output_tokens", "num_steps", "queue_s", "ttft_s", "total_s",
        "tpot_s", "decode_tok_s", "mean_acceptance_length",
    )  # fmt: skip
    return PromptRow(
        question_id=asked.question_id,
        repetition=asked.repetition,
        turn=asked.turn,
        run_id=record.id,
        finish_reason=record.finish_reason,
        error=record.error,
        score=answer.score,
        output_digest=hashlib.sha256(record.output.encode()).hexdigest()[:_DIGEST_CHARS],
        **{name: figures[name] for name in told},
    )


def _prompt(row: PromptRow) -> tuple[str, int, int]:
    return row.question_id, row.repetition, row.turn


def _place(cell: CellResult) -> tuple[str, str, int]:
    return cell.dataset, cell.method, cell.concurrency
