"""Runs as files: CSV for spreadsheets, JSON with whole records; kept for minutes only."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any, Literal, TextIO

from dflash_app.metrics import RunMetrics
from dflash_app.store.records import RunRecord
from dflash_app.ui.format import well_formed

Kind = Literal["csv", "json"]

_TELL_EVERY = 2000

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a cell may begin with that a spreadsheet takes for a formula (OWASP, CSV injection)."""

_COLUMNS = (
    "id", "started_at", "finished_at", "source", "task", "group_id", "pair", "target_revision",
    "drafter_revision", "backend", "device", "dtype", "quantization", "drafter_quantization",
    "path", "drafter_path", "rollback_kind", "mode", "policy", "block_size", "trained_block_size",
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "max_new_tokens",
    "thinking", "app_version", "finish_reason", "prompt", "output", "error",
)  # fmt: skip
_FIGURES = tuple(
    name
    for name in RunMetrics.__dataclass_fields__
    if name not in ("acceptance_by_position", "acceptance_histogram")
)


def write_runs(kind: Kind, runs: Iterable[RunRecord], path: Path) -> Iterator[int]:
    """Write runs to a file, and tell now and then how many; times are UTC.

    CSV has all figures of a run in one line, unknown ones empty; text that a spreadsheet would run
    as a formula gets a leading apostrophe. JSON is a list of whole records.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        written = _write_csv(runs, file) if kind == "csv" else _write_json(runs, file)
        for number in written:
            if number % _TELL_EVERY == 0:
                yield number


def as_json(run: RunRecord) -> dict[str, Any]:
    """The whole record as JSON has it, but for its owner: a visitor's key is nobody else's."""
    record = asdict(run)
    del record["start"]["owner"]
    record["start"]["started_at"] = run.start.started_at.isoformat()
    record["finished_at"] = run.finished_at.isoformat() if run.finished_at else None
    return record


def _write_csv(runs: Iterable[RunRecord], file: TextIO) -> Iterator[int]:
    writer = csv.writer(file)
    writer.writerow(_COLUMNS + _FIGURES)
    for number, run in enumerate(runs, start=1):
        writer.writerow(_row(run))
        yield number


def _write_json(runs: Iterable[RunRecord], file: TextIO) -> Iterator[int]:
    file.write("[")
    for number, run in zip(count(1), runs):
        file.write(",\n" if number > 1 else "\n")
        file.write(well_formed(json.dumps(as_json(run), ensure_ascii=False)))
        yield number
    file.write("\n]\n")


def _row(run: RunRecord) -> Sequence[object]:
    known = {name: getattr(run.start, name, None) for name in _COLUMNS}
    known |= {name: getattr(run.metrics, name) for name in _FIGURES}
    known |= {
        "id": run.id,
        "started_at": run.start.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "finish_reason": run.finish_reason,
        "output": run.output,
        "error": run.error,
    }
    return [_cell(known[name]) for name in _COLUMNS + _FIGURES]


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = well_formed(value)
    return f"'{text}" if text.startswith(_FORMULA_SIGNS) else text
