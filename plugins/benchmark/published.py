"""What the registry's sources publish of a pair, beside what a benchmark measured of it.

Two kinds of speedup are published. The paper's own script (Transformers, MLX) divides mean times
per output token, prefill left out; tables of servers (SGLang, vLLM) and model cards divide
throughputs, prefill included. Each is held against the same kind here. Acceptance is the mean over
requests in both.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from dflash_app.hub.published import is_for
from dflash_app.registry.pair import Benchmark, Pair, Result

from .cells import methods
from .paired import complete, pair_up
from .plan import Plan
from .remarks import Remark, remark
from .results import BenchmarkResults, CellResult, PromptRow, Where

Kind = Literal["decoding", "end to end"]

_TEMPERATURE = re.compile(r"\btemperature (\d+(?:\.\d+)?)")
_THINKING = re.compile(r"\b(?:thinking|reasoning effort) (\w+)")
_AT_MOST = re.compile(r"\bat most (\d+) new tokens")
_ENGINES = ("Transformers", "SGLang", "vLLM", "MLX", "llama.cpp")
_SERVERS = ("SGLang", "vLLM")


@dataclass(frozen=True, slots=True)
class Beside:
    """A published result and the measured cell that is most like it; None is not told.

    Attributes:
        dataset: of the cell.
        method: key of the cell's way of decoding.
        concurrency: of the cell.
        pair: the registry's row that the result was published for.
        task: as published.
        source: where it is published.
        setup: engine, hardware and settings as the source tells them.
        published_concurrency: requests at a time.
        published_block_size: anchor included.
        kind: what the published speedup divides, and so the measured one.
        published_speedup: against plain decoding there.
        measured_speedup: against plain decoding here.
        published_acceptance_length: bonus token included.
        measured_acceptance_length: likewise; the mean over prompts, as z-lab's script takes it, and
            so not quite the cell's, which is over all steps.
        alike: the settings of both are the same as far as they are told; engine and hardware may
            still differ, which `differences` says.
        differences: of the settings, then of engine and hardware.
    """

    dataset: str
    method: str
    concurrency: int
    pair: str
    task: str
    source: str
    setup: str | None
    published_concurrency: int | None
    published_block_size: int | None
    kind: Kind
    published_speedup: float | None
    measured_speedup: float | None
    published_acceptance_length: float | None
    measured_acceptance_length: float | None
    alike: bool
    differences: tuple[Remark, ...]


def find_beside(results: BenchmarkResults, pairs: Sequence[Pair]) -> tuple[Beside, ...]:
    """The published results of each cell's task whose settings are the cell's, or come nearest.

    Args:
        results: of a benchmark.
        pairs: the registry's; of a pair on a server the rows that name the model it serves count.
    """
    found: list[Beside] = []
    for cell in results.cells:
        if not cell.method.startswith("dflash"):
            continue
        compared = [
            _hold(results, cell, pair, table, row)
            for pair in _described(results.plan.pair, pairs)
            for table in pair.benchmarks
            for row in table.results
            if same_task(row.task, cell.dataset)
        ]
        alike = [each for _, each in compared if each.alike]
        fewest = min((count for count, _ in compared), default=0)
        found += alike or [each for count, each in compared if count == fewest]
    return tuple(found)


def same_task(one: str, other: str) -> bool:
    """Whether two names mean one data set: "MATH-500", "Math500" and "math500" do."""
    return _plain(one) == _plain(other)


def mean_tpot_ratio(rows: Iterable[PromptRow], plain: Iterable[PromptRow]) -> float | None:
    """Mean time per output token of plain decoding over that of a method, on the same prompts."""
    pairs = pair_up(rows, plain)
    known = [(one.tpot_s, other.tpot_s) for one, other in pairs if one.tpot_s and other.tpot_s]
    if not known:
        return None
    return fmean(other for _, other in known) / fmean(one for one, _ in known)


def accelerators_of(results: BenchmarkResults) -> list[str]:
    """A name for each accelerator of the machine that measured; of a server nothing is known."""
    hardware = results.hardware
    cpu = str(hardware.get("cpu") or "")
    return list(hardware.get("gpus") or ()) or ([cpu] if cpu.startswith("Apple ") else [])


def _described(name: str, pairs: Sequence[Pair]) -> list[Pair]:
    """The row of a pair; of one on a server, the rows whose target or drafter it serves."""
    own = next((pair for pair in pairs if pair.name == name), None)
    if own is None or not own.remote:
        return [own] if own else []
    served = {own.target.model, own.drafter.model if own.drafter else own.target.model}
    return [pair for pair in pairs if pair.target.repo in served and pair.benchmarks]


def _hold(
    results: BenchmarkResults, cell: CellResult, pair: Pair, table: Benchmark, row: Result
) -> tuple[int, Beside]:
    """The number of settings that differ, and the comparison."""
    settings = list(_settings_differing(results.plan, cell, pair, table, row))
    surroundings = list(_surroundings_differing(results, cell, table, row))
    kind = _kind(table)
    return len(settings), Beside(
        dataset=cell.dataset,
        method=cell.method,
        concurrency=cell.concurrency,
        pair=pair.name,
        task=row.task,
        source=table.source,
        setup=table.setup,
        published_concurrency=row.concurrency,
        published_block_size=row.block_size,
        kind=kind,
        published_speedup=row.speedup,
        measured_speedup=_measured_speedup(results, cell, kind),
        published_acceptance_length=row.acceptance_length,
        measured_acceptance_length=_mean_length(cell),
        alike=not settings,
        differences=(*settings, *surroundings),
    )


def _kind(table: Benchmark) -> Kind:
    engine = _engine(table.setup)
    on_card = engine is None and "model card" in table.source
    return "end to end" if on_card or engine in _SERVERS else "decoding"


def _measured_speedup(results: BenchmarkResults, cell: CellResult, kind: Kind) -> float | None:
    if kind == "end to end":
        return cell.against_plain.end_to_end_speedup if cell.against_plain else None
    plain = results.cell(cell.dataset, "ar", cell.concurrency)
    return mean_tpot_ratio(cell.rows, plain.rows) if plain else None


def _mean_length(cell: CellResult) -> float | None:
    lengths = [row.mean_acceptance_length for row in complete(cell.rows).values()]
    known = [length for length in lengths if length is not None]
    return fmean(known) if known else None


def _settings_differing(
    plan: Plan, cell: CellResult, pair: Pair, table: Benchmark, row: Result
) -> Iterator[Remark]:
    setup = table.setup or ""
    block_size = _block_size(cell)
    there = row.block_size or pair.block_size
    if row.concurrency not in (None, cell.concurrency):
        yield _differs("concurrency", row.concurrency, cell.concurrency)
    if block_size is not None and there not in (None, block_size):
        yield _differs("block_size", there, block_size)
    if any(each.key == cell.method and each.policy != "fixed" for each in methods(plan)):
        yield remark("differs_policy")
    temperature = _temperature(setup)
    if temperature not in (None, plan.temperature):
        yield _differs("temperature", f"{temperature:g}", f"{plan.temperature:g}")
    thinking = _THINKING.search(setup)
    if thinking and thinking[1] != plan.thinking:
        if plan.thinking is None:
            yield remark("differs_thinking_default", there=thinking[1])
        else:
            yield _differs("thinking", thinking[1], plan.thinking)


def _surroundings_differing(
    results: BenchmarkResults, cell: CellResult, table: Benchmark, row: Result
) -> Iterator[Remark]:
    """What the same settings may still be run in."""
    plan, setup = results.plan, table.setup or ""
    limit = _AT_MOST.search(setup)
    if limit and int(limit[1]) != plan.max_new_tokens:
        yield _differs("max_new_tokens", limit[1], plan.max_new_tokens)
    engine, here = _engine(setup), sorted({_runs_on(where) for where in cell.where})
    if engine is None:
        yield remark("differs_engine_unknown")
    elif here != [engine]:
        yield _differs("engine", engine, ", ".join(here))
    if engine in _SERVERS and same_task(row.task, "mt-bench"):
        yield remark("differs_first_turns")  # z-lab's script sends servers nothing else
    if any(where.backend == "remote" for where in cell.where):
        yield remark("differs_server_hardware")
    else:
        matches = is_for(table.setup, accelerators_of(results))
        if matches is not True:
            yield remark("differs_hardware" if matches is False else "differs_hardware_unknown")


def _differs(what: str, there: object, here: object) -> Remark:
    return remark(f"differs_{what}", there=there, here=here)


def _runs_on(where: Where) -> str:
    if where.backend != "remote":
        return {"mlx": "MLX"}.get(where.backend, where.backend)
    return _engine(where.paths) or "a server"


def _block_size(cell: CellResult) -> int | None:
    sizes = {where.block_size for where in cell.where} - {None}
    return sizes.pop() if len(sizes) == 1 else None


def _engine(setup: str | None) -> str | None:
    words = re.findall(r"[A-Za-z.]+", setup or "")
    return next((name for name in _ENGINES if name in words), None)


def _temperature(setup: str) -> float | None:
    if re.search(r"\bgreedy\b", setup):
        return 0.0
    found = _TEMPERATURE.search(setup)
    return float(found[1]) if found else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
