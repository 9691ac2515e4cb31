"""The registry's published figures, by what a user wants to do and by the hardware they are for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, get_args

from dflash_app.registry.pair import Benchmark, Pair, Result

Use = Literal["chat", "code", "maths", "long context"]
USES: tuple[Use, ...] = get_args(Use)

_TASKS: dict[str, tuple[str, ...]] = {
    "chat": ("mtbench", "alpaca"),
    "code": ("humaneval", "mbpp", "lcb"),
    "maths": ("gsm8k", "math500", "aime25"),
}
"""Benchmarks by use, without case and signs. Nobody publishes figures of long prompts."""
_MODEL = re.compile(
    r"(?:(\d+)x )?(?:\b([A-Z]+\d+[A-Z]?(?: Max| Ultra| Pro)?)\b|\bRTX (\d{4}(?: Ti)?)\b)"
)
"""An accelerator ("H200", "4x B200", "M5 Max", "RTX 4090") in a setup or in a device's name."""
_MAX_LISTED = 3
"""Tasks that are told one by one."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one published table says of a pair for a use: one request at a time, one block size.

    Attributes:
        results: the rows of the table, as published.
        source: of the table.
        setup: engine and hardware; None where the source does not tell.
        here: whether the table is for this hardware; None where the source does not tell.
        speedup: mean of the rows that tell it; None where none does.
        acceptance_length: the same.
    """

    results: tuple[Result, ...]
    source: str
    setup: str | None
    here: bool | None
    speedup: float | None
    acceptance_length: float | None

    def say(self) -> str:
        """The figures as published, with their source and hardware."""
        where = {True: "this hardware", False: "other hardware", None: "hardware not told"}
        labels = [self.source, *([self.setup] if self.setup else []), where[self.here]]
        return f"{self._say_rows()} ({'; '.join(labels)})"

    def _say_rows(self) -> str:
        told = [(row.task, row.speedup) for row in self.results if row.speedup]
        unit, kind = "x", "speedup"
        if not told:
            lengths = ((row.task, row.acceptance_length) for row in self.results)
            told = [(task, length) for task, length in lengths if length]
            unit, kind = "", "acceptance length"
        values = [value for _, value in told]
        if len(told) > _MAX_LISTED:
            listed = f"from {min(values):g}{unit} to {max(values):g}{unit} on {len(told)} tasks"
        else:
            listed = ", ".join(f"{value:g}{unit} on {task}" for task, value in told)
        mean = f" {fmean(values):.2f}{unit} on average:" if len(told) > 1 else ""
        return f"{kind}{mean} {listed}"


def figures_for(pair: Pair, use: Use, hardware: Sequence[str] = ()) -> Figures | None:
    """The one table that says most of a pair for a use: for this hardware, with most rows.

    Args:
        pair: a registry row.
        use: what for; "long context" takes the figures of every other use.
        hardware: a name for each accelerator of this machine ("NVIDIA H200").

    Returns:
        None where nothing is published for the use.
    """
    found = [_read(table, pair.block_size, use, hardware) for table in pair.benchmarks]
    known = [each for each in found if each is not None]
    return max(known, key=_weight, default=None)


def is_for(setup: str | None, hardware: Sequence[str]) -> bool | None:
    """Whether a table was measured on this machine's kind and number of accelerators.

    Args:
        setup: as the registry tells it.
        hardware: a name for each accelerator; empty where there is none.

    Returns:
        None where the setup names no accelerator.
    """
    wanted = {model: count for count, model in _models(setup or "")}
    if not wanted:
        return None
    here = [model for name in hardware for _, model in _models(name)]
    return any(here.count(model) >= count for model, count in wanted.items())


def _models(text: str) -> list[tuple[int, str]]:
    found = _MODEL.findall(text)
    return [(int(count or 1), model or geforce) for count, model, geforce in found]


def _weight(figures: Figures) -> tuple[bool, bool, int]:
    return bool(figures.here), figures.speedup is not None, len(figures.results)


def _read(
    table: Benchmark, block_size: int | None, use: Use, hardware: Sequence[str]
) -> Figures | None:
    every = tuple(task for tasks in _TASKS.values() for task in tasks)
    wanted = _TASKS.get(use, every)
    rows = [
        row
        for row in table.results
        if re.sub(r"[^a-z0-9]", "", row.task.lower()) in wanted and row.concurrency in (None, 1)
    ]
    if not rows:
        return None
    # A table of several block sizes counts by the one that the drafter was trained for.
    sizes = {row.block_size for row in rows}
    size = block_size if block_size in sizes else max(sizes, key=lambda each: each or 0)
    rows = [row for row in rows if row.block_size == size]
    speedups = [row.speedup for row in rows if row.speedup]
    lengths = [row.acceptance_length for row in rows if row.acceptance_length]
    return Figures(
        results=tuple(rows),
        source=table.source,
        setup=table.setup,
        here=is_for(table.setup, hardware),
        speedup=fmean(speedups) if speedups else None,
        acceptance_length=fmean(lengths) if lengths else None,
    )
