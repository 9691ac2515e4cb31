"""What keeps two results from being compared, and what else differs and may be the cause."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .plan import Plan
from .report import say_hardware
from .results import BenchmarkResults

_SPEEDS = ("speedup", "decoding", "end to end")
_ALL = (*_SPEEDS, "acceptance", "right", "same text as AR")

_SETTINGS = ("temperature", "top_p", "top_k", "thinking", "max_new_tokens")
"""Of a plan: other outputs, other figures."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A difference under which figures say nothing of a regression.

    Attributes:
        what: "hardware", "pair", "setting ...", "number of compute threads" or "device or
            precision".
        before: in the first result.
        after: in the second.
        bars: the figures that must not be judged.
    """

    what: str
    before: str
    after: str
    bars: tuple[str, ...]


def find_obstacles(before: BenchmarkResults, after: BenchmarkResults) -> Iterator[Obstacle]:
    """Other hardware, pair, settings, number of threads, device or precision, in that order."""
    if _machine(before.hardware) != _machine(after.hardware):
        yield Obstacle(
            "hardware", say_hardware(before.hardware), say_hardware(after.hardware), _SPEEDS
        )
    if before.plan.pair != after.plan.pair:
        yield Obstacle("pair", before.plan.pair, after.plan.pair, _ALL)
    for name in _SETTINGS:
        first, second = _setting(before.plan, name), _setting(after.plan, name)
        if first != second:
            yield Obstacle(f"setting {name.replace('_', ' ')}", first, second, _ALL)
    threads = [str(each.plan.options.num_threads or "not set") for each in (before, after)]
    if threads[0] != threads[1]:
        yield Obstacle("number of compute threads", *threads, _SPEEDS)
    places = _places(before), _places(after)
    if places[0] != places[1]:
        yield Obstacle("device or precision", "; ".join(places[0]), "; ".join(places[1]), _ALL)


def find_versions(before: BenchmarkResults, after: BenchmarkResults) -> Iterator[str]:
    """What of software, models and questions differs, as "torch 2.12.0, then 2.13.0"."""
    olds, news = _parts(before), _parts(after)
    for name in sorted(olds.keys() | news.keys(), key=str.lower):
        old, new = olds.get(name, "none"), news.get(name, "none")
        if old != new:
            yield f"{name} {old}, then {new}"


def _machine(hardware: dict[str, Any]) -> tuple[object, ...]:
    """What of a fingerprint must agree for two speeds to be compared."""
    return (hardware.get("cpu"), hardware.get("cores"), tuple(hardware.get("gpus") or ()))


def _setting(plan: Plan, name: str) -> str:
    value = getattr(plan, name)
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _places(results: BenchmarkResults) -> list[str]:
    found = {
        f"{where.backend}, {where.device}, {where.precision}"
        for cell in results.cells
        for where in cell.where
    }
    return sorted(found)


def _parts(results: BenchmarkResults) -> dict[str, str]:
    """What a figure may depend on beside hardware and settings, by its name."""
    asked = {f"questions of {name}": each for name, each in results.question_digests.items()}
    software = {"DFlash Studio": results.app_version} | results.library_versions
    return software | _models(results) | asked


def _models(results: BenchmarkResults) -> dict[str, str]:
    """Revisions, and how the models decoded."""
    places = [(cell, where) for cell in results.cells for where in cell.where]
    found: dict[str, set[str]] = {}
    for cell, where in places:
        for name, told in (
            ("target's revision", where.target_revision),
            ("drafter's revision", where.drafter_revision),
            (f"path of {cell.label}", where.paths),
            (f"block size of {cell.label}", where.block_size),
        ):
            if told is not None:
                found.setdefault(name, set()).add(str(told))
    return {name: " and ".join(sorted(told)) for name, told in found.items()}
