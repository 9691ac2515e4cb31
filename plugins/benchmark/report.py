"""A benchmark's report: a line for each cell, published figures beside them, on what and how."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import ConfigDict, TypeAdapter

from dflash_app.registry.pair import Pair
from dflash_app.ui.format import UNKNOWN, format_bytes

from .command_line import command_of
from .counts import Counts, count
from .figures import at
from .paired import complete
from .plan import Plan
from .published import Beside, find_beside, mean_tpot_ratio
from .remarks import Remark, remark
from .results import BenchmarkResults, CellResult

FORMAT: Final = 1
"""Of the JSON."""
FEW_PROMPTS = 8
"""Fewer of one cell make figures that the next measurement may contradict."""


@dataclass(frozen=True, slots=True)
class Line:
    """One cell. None is unknown, and of plain decoding what is held against itself.

    Attributes:
        dataset: its name.
        method: key of the way of decoding.
        label: that in words.
        concurrency: requests at a time.
        block_size: anchor included; None in AR and where a server does not tell.
        runs_on: backend, device and precision.
        num_prompts: that the plan asks.
        num_answered: prompts whose run ended by itself.
        num_failed: prompts whose run failed.
        num_pairs: prompts that plain decoding answered as well.
        speedup: of decoding: median over those pairs of the ratio of decoding speeds.
        speedup_quartiles: first and third, of the same ratios.
        speedup_mean_tpot: mean time per output token of plain decoding over this one's: the paper's
            way to say it.
        speedup_end_to_end: ratio of the throughputs, prefill included: the model cards' way.
        end_to_end_tok_s: all output tokens by the time in which any request was under way.
        decode_tok_s: of one request, prefill left out.
        acceptance_length: bonus token included.
        acceptance_source: who counted; None is our own engine.
        acceptance_shared: counted for a whole server: other traffic may be in it.
        ttft_p50_s: time to first token, median over prompts.
        ttft_p95_s: 95 % of the prompts had it earlier.
        tpot_p50_s: time per output token after the first, likewise.
        tpot_p95_s: likewise.
        score: part of the graded answers that is right.
        num_scored: how many were graded.
        num_identical: of the pairs, how many outputs are the same text.
    """

    dataset: str
    method: str
    label: str
    concurrency: int
    block_size: int | None
    runs_on: str
    num_prompts: int
    num_answered: int
    num_failed: int
    num_pairs: int | None
    speedup: float | None
    speedup_quartiles: tuple[float, float] | None
    speedup_mean_tpot: float | None
    speedup_end_to_end: float | None
    end_to_end_tok_s: float | None
    decode_tok_s: float | None
    acceptance_length: float | None
    acceptance_source: str | None
    acceptance_shared: bool
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    tpot_p50_s: float | None
    tpot_p95_s: float | None
    score: float | None
    num_scored: int
    num_identical: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is printed, drawn and written; see `Line`, `Beside`.

    Attributes:
        format: of the JSON.
        benchmark_id: in the database of the machine that measured.
        created_at: UTC.
        finished_at: UTC; None where prompts are left.
        plan: what was asked for.
        hardware: see `store.fingerprint`; of this machine, not of a server.
        lines: in the order of the plan's grid.
        published: in the order of the lines.
        notes: what a reader must know.
        command: that measures the same; empty in files of earlier versions, as are the next ones.
        num_questions: that were taken, by data set.
        counts: from the questions to the prompts of the grid.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: Literal[1]
    benchmark_id: int
    created_at: datetime
    finished_at: datetime | None
    plan: Plan
    hardware: dict[str, Any]
    library_versions: dict[str, str]
    app_version: str
    lines: tuple[Line, ...]
    published: tuple[Beside, ...]
    notes: tuple[Remark, ...]
    command: str = ""
    num_questions: dict[str, int] = field(default_factory=dict)
    counts: Counts | None = None


def build_report(results: BenchmarkResults, pairs: Sequence[Pair]) -> Report:
    """The report of what a benchmark has measured so far.

    Args:
        results: of it.
        pairs: the registry's: what is published of the benchmark's.
    """
    lines = tuple(_line(results, cell) for cell in results.cells)
    published = find_beside(results, pairs)
    pair = next((each for each in pairs if each.name == results.plan.pair), None)
    return Report(
        format=FORMAT,
        benchmark_id=results.benchmark_id,
        created_at=results.created_at,
        finished_at=results.finished_at,
        plan=results.plan,
        hardware=results.hardware,
        library_versions=results.library_versions,
        app_version=results.app_version,
        lines=lines,
        published=published,
        notes=tuple(_notes(results, lines, published)),
        command=command_of(results.plan, pair),
        num_questions=results.num_questions,
        counts=_counts(results),
    )


def report_json(report: Report) -> str:
    """As JSON text, which holds all of it."""
    return TypeAdapter(Report).dump_json(report, indent=2).decode()


def say_hardware(hardware: dict[str, Any]) -> str:
    """A machine in one line."""
    ram = hardware.get("ram_bytes")
    parts = [str(hardware.get("cpu") or "unknown processor"), f"{hardware.get('cores')} cores"]
    parts += [format_bytes(ram)] if isinstance(ram, int) else []
    parts += list(hardware.get("gpus") or ()) or ["no graphics card seen"]
    return ", ".join([*parts, str(hardware.get("os") or UNKNOWN)])


def taken(plan: Plan, num_questions: Mapping[str, int]) -> tuple[Remark, ...]:
    """How many questions of each data set were asked, and where a set has no more of them."""
    return tuple(
        remark(_taken_key(plan.num_prompts, number), number=f"{number:,}", name=name)
        for name, number in num_questions.items()
    )


def _taken_key(asked: int | None, number: int) -> str:
    if asked is None:
        return "taken_all"
    return "taken_fewer" if number < asked else "taken"


def say_settings(plan: Plan, num_questions: Mapping[str, int] | None = None) -> str:
    """What of a plan the figures depend on, in one line.

    Args:
        plan: of the benchmark.
        num_questions: that were taken, by data set; without it the plan's number is told.
    """
    told = "; ".join(map(str, taken(plan, num_questions or {})))
    asked = f"{plan.num_prompts or 'all'} questions of each set"
    sampling = "greedy" if plan.temperature == 0 else f"temperature {plan.temperature:g}"
    if plan.temperature:
        sampling += f", top-p {plan.top_p:g}, top-k {plan.top_k}, seed {plan.seed}"
    parts = [
        sampling,
        f"thinking {plan.thinking or 'as the template has it'}",
        f"at most {plan.max_new_tokens:,} new tokens",
        f"questions: {told}" if told else asked,
        f"asked {plan.repetitions} time{'s' * (plan.repetitions != 1)}",
        f"{plan.warm_up} round{'s' * (plan.warm_up != 1)} of warm-up",
    ]
    chosen = asdict(plan.options) | {"drafter": None}  # which the methods decide
    options = [f"{name} {value}" for name, value in chosen.items() if value]
    return ", ".join([*parts, *options])


def _counts(results: BenchmarkResults) -> Counts | None:
    """None where the results do not tell how many questions there were."""
    if not results.num_questions:
        return None
    repetitions = results.plan.repetitions
    turns = {each.dataset: each.num_prompts // repetitions for each in results.cells}
    return count(results.plan, results.num_questions, turns)


def _line(results: BenchmarkResults, cell: CellResult) -> Line:
    figures, against = cell.figures, cell.against_plain
    plain = results.cell(cell.dataset, "ar", cell.concurrency) if against else None
    ttft, tpot = _times(cell, "ttft_s"), _times(cell, "tpot_s")
    sizes = {where.block_size for where in cell.where}
    return Line(
        dataset=cell.dataset,
        method=cell.method,
        label=cell.label,
        concurrency=cell.concurrency,
        block_size=sizes.pop() if len(sizes) == 1 else None,
        runs_on="; ".join(f"{w.backend}, {w.device}, {w.precision}" for w in cell.where),
        num_prompts=cell.num_prompts,
        num_answered=figures.num_answered,
        num_failed=figures.num_failed,
        num_pairs=against.num_pairs if against else None,
        speedup=against.decode_speedup if against else None,
        speedup_quartiles=against.decode_speedup_quartiles if against else None,
        speedup_mean_tpot=mean_tpot_ratio(cell.rows, plain.rows) if plain else None,
        speedup_end_to_end=against.end_to_end_speedup if against else None,
        end_to_end_tok_s=figures.end_to_end_tok_s,
        decode_tok_s=figures.decode_tok_s,
        acceptance_length=figures.mean_acceptance_length,
        acceptance_source=figures.acceptance_source,
        acceptance_shared=figures.acceptance_shared,
        ttft_p50_s=at(ttft, 0.5) if ttft else None,
        ttft_p95_s=at(ttft, 0.95) if ttft else None,
        tpot_p50_s=at(tpot, 0.5) if tpot else None,
        tpot_p95_s=at(tpot, 0.95) if tpot else None,
        score=figures.score,
        num_scored=figures.num_scored,
        num_identical=against.num_identical if against else None,
    )


def _times(cell: CellResult, name: str) -> list[float]:
    values = [getattr(row, name) for row in complete(cell.rows).values()]
    return [value for value in values if value is not None]


def _notes(
    results: BenchmarkResults, lines: Sequence[Line], published: Sequence[Beside]
) -> Iterator[Remark]:
    asked = sum(line.num_prompts for line in lines)
    left = asked - sum(line.num_answered for line in lines)
    if left:
        yield remark("note_left", left=f"{left:,}", all=f"{asked:,}")
    few = [line for line in lines if 0 < line.num_answered < FEW_PROMPTS]
    if few:
        places = (f"{line.dataset} {line.label} ({line.num_answered})" for line in few)
        yield remark("note_few", least=FEW_PROMPTS, cells=", ".join(places))
    ends = [row.finish_reason for cell in results.cells for row in complete(cell.rows).values()]
    cut, limit = ends.count("length"), results.plan.max_new_tokens
    if cut:
        yield remark("note_cut", cut=f"{cut:,}", all=f"{len(ends):,}", limit=f"{limit:,}")
    if any(line.acceptance_shared for line in lines):
        yield remark("note_shared")
    if any(where.backend == "remote" for cell in results.cells for where in cell.where):
        yield remark("note_client")
    if results.plan.temperature > 0:
        yield remark("note_sampled")
    if published and not any(each.alike for each in published):
        yield remark("note_nothing_alike")
    if not published and any(line.method.startswith("dflash") for line in lines):
        yield remark("note_nothing_published")
