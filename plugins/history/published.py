"""What the sources of the registry publish of a pair, beside what was measured here."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from dflash_app.hub.published import is_for
from dflash_app.registry.pair import Benchmark, Pair, Result
from dflash_app.store.records import RunRecord

from .speedups import Speedup


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians of runs of this machine; None where none tells.

    Attributes:
        speedup: against plain decoding of the same.
        acceptance_length: bonus token included.
        num_runs: with a drafter.
    """

    speedup: float | None
    acceptance_length: float | None
    num_runs: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """One published table of a pair beside this machine's runs of it.

    Attributes:
        pair: the registry's row.
        table: where the figures are from.
        here: whether the table is for this machine's accelerators; None where it does not tell.
        rows: each published result, and the runs here whose task is the same.
        every: all runs of the pair here, whatever their task.
    """

    pair: Pair
    table: Benchmark
    here: bool | None
    rows: tuple[tuple[Result, Measured], ...]
    every: Measured


def build_sheets(
    pairs: Iterable[Pair],
    runs: Sequence[RunRecord],
    speedups: Sequence[Speedup],
    accelerators: Sequence[str],
) -> list[Sheet]:
    """A sheet for each pair that was run with its drafter and that somebody published figures of.

    Args:
        pairs: the registry's.
        runs: of one machine.
        speedups: of these runs.
        accelerators: of this machine, by name.
    """
    known = {pair.name: pair for pair in pairs}
    sheets = []
    for name in sorted({run.start.pair for run in runs if run.start.mode != "ar"}):
        pair = known.get(name)
        tables = [table for table in pair.benchmarks if _rows(pair, table)] if pair else []
        if pair and tables:
            table = max(tables, key=partial(_weight, pair, accelerators))
            sheets.append(_build_sheet(pair, table, runs, speedups, accelerators))
    return sheets


def _build_sheet(
    pair: Pair,
    table: Benchmark,
    runs: Sequence[RunRecord],
    speedups: Sequence[Speedup],
    accelerators: Sequence[str],
) -> Sheet:
    own = [run for run in runs if run.start.pair == pair.name and run.start.mode != "ar"]
    gained = [each for each in speedups if each.run.start.pair == pair.name]
    rows = tuple(
        (
            result,
            _measure(
                [run for run in own if _same_task(run, result.task)],
                [each for each in gained if _same_task(each.run, result.task)],
            ),
        )
        for result in _rows(pair, table)
    )
    return Sheet(pair, table, is_for(table.setup, accelerators), rows, _measure(own, gained))


def _measure(runs: Sequence[RunRecord], speedups: Sequence[Speedup]) -> Measured:
    lengths = [run.metrics.mean_acceptance_length for run in runs]
    told = [length for length in lengths if length is not None]
    return Measured(
        median(each.ratio for each in speedups) if speedups else None,
        median(told) if told else None,
        len(runs),
    )


def _rows(pair: Pair, table: Benchmark) -> list[Result]:
    """One request at a time, as here, with the block size that the drafter was trained for."""
    sizes = (None, pair.block_size)
    return [
        row for row in table.results if row.concurrency in (None, 1) and row.block_size in sizes
    ]


def _weight(pair: Pair, accelerators: Sequence[str], table: Benchmark) -> tuple[bool, int]:
    rows = _rows(pair, table)
    told = sum(row.speedup is not None for row in rows)
    return is_for(table.setup, accelerators) is True, told


def _same_task(run: RunRecord, task: str) -> bool:
    return run.start.task is not None and _plain(run.start.task) == _plain(task)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
