"""A comparison of two results as text: for a terminal, and as Markdown."""

from collections.abc import Sequence
from pathlib import Path

from dflash_app.cli.terminal import printable
from dflash_app.errors import RequestError
from dflash_app.ui.format import (
    format_count,
    format_decimal,
    format_percent,
    format_ratio,
    format_speed,
)

from .regression import CONFIDENCE, MIN_QUESTIONS, THRESHOLDS, CellChange, Change, Comparison
from .tables import cell, columns, pipes

_HEADER = ("figure", "before", "after", "change", "interval", "questions", "verdict")
_WRITTEN = {
    "speedup": format_ratio,
    "decoding": format_speed,
    "end to end": format_speed,
    "acceptance": format_decimal,
    "right": format_percent,
    "same text as AR": format_percent,
}
_IN_POINTS = ("right", "same text as AR")


def comparison_text(comparison: Comparison) -> str:
    """The comparison for a terminal: what differs first, then cell by cell, then the verdict."""
    parts = ["\n".join([f"{' against '.join(comparison.names)}", *_differences(comparison)])]
    for each in comparison.cells:
        parts.append("\n".join([_title(each), columns(_HEADER, _rows(each)), *_told(each)]))
    parts.append(
        "\n".join([*_alone(comparison), _method(), *_hints(comparison), say_verdict(comparison)])
    )
    return printable("\n\n".join(parts))


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown page, the verdict first."""
    before, after = map(cell, comparison.names)
    parts = [f"# {before} against {after}", f"**{say_verdict(comparison)}**"]
    parts.append("\n".join(f"- {cell(line)}" for line in _differences(comparison)))
    for each in comparison.cells:
        parts += [f"## {cell(_title(each))}", pipes(_HEADER, _rows(each))]
        parts += [cell(line) for line in _told(each)]
    parts += [cell(line) for line in (*_alone(comparison), *_hints(comparison), _method())]
    return "\n\n".join(filter(None, parts)) + "\n"


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write comparison.md.

    Raises:
        RequestError: the folder cannot be written.
    """
    path = folder / "comparison.md"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(comparison_markdown(comparison), encoding="utf-8")
    except OSError as error:
        raise RequestError(
            f"{folder} cannot be written ({error.strerror}): name another folder."
        ) from error
    return path


def say_verdict(comparison: Comparison) -> str:
    """The whole in one sentence."""
    worse = [
        f"{_title(each)}: {', '.join(_reasons(each))}"
        for each in comparison.cells
        if each.regressed
    ]
    if worse:
        return f"REGRESSION. {'; '.join(worse)}."
    if not comparison.judged:
        return "NOT JUDGED: no figure can be compared."
    return f"No regression{' in the figures that are judged' * bool(comparison.obstacles)}."


def _differences(comparison: Comparison) -> list[str]:
    told = [
        f"Different {each.what}: {each.before}, then {each.after}. Not judged: "
        f"{', '.join(each.bars)}."
        for each in comparison.obstacles
    ]
    return told + [f"Changed: {each}." for each in comparison.versions]


def _title(each: CellChange) -> str:
    return f"{each.dataset}, {each.label}, {each.concurrency} at a time"


def _rows(each: CellChange) -> Sequence[Sequence[str]]:
    return [_row(change) for change in each.changes]


def _row(change: Change) -> list[str]:
    write = _WRITTEN[change.figure]
    unit = " points" if change.figure in _IN_POINTS else " %"
    return [
        change.figure,
        write(change.before),
        write(change.after),
        f"{change.change * 100:+.1f}{unit}",
        f"{change.low * 100:+.1f} to {change.high * 100:+.1f}",
        format_count(change.num_questions),
        change.verdict.upper() if change.verdict == "worse" else change.verdict,
    ]


def _reasons(each: CellChange) -> list[str]:
    before, after = each.num_failed
    failed = [f"{after} prompts failed, {before} before"] if after > before else []
    return [change.figure for change in each.changes if change.verdict == "worse"] + failed


def _told(each: CellChange) -> list[str]:
    told = [f"{each.num_pairs} prompts in both, {each.num_changed} with another output."]
    if each.num_other_prompts:
        told.append(f"Left out: {each.num_other_prompts} prompts whose texts are others now.")
    if any(each.num_failed):
        told.append(f"Failed: {each.num_failed[0]} prompts before, {each.num_failed[1]} after.")
    return told


def _alone(comparison: Comparison) -> list[str]:
    sides = zip(comparison.names, (comparison.only_before, comparison.only_after), strict=True)
    return [f"Only in {name}: {', '.join(keys)}." for name, keys in sides if keys]


def _hints(comparison: Comparison) -> list[str]:
    """Plain decoding that slowed down, while no speedup did, tells of the machine."""
    worse = [
        (each.method, change.figure)
        for each in comparison.cells
        for change in each.changes
        if change.verdict == "worse"
    ]
    if ("ar", "decoding") not in worse or any(figure == "speedup" for _, figure in worse):
        return []
    return ["Plain decoding is slower and no speedup is lost: the machine may have been busy."]


def _method() -> str:
    limits = ", ".join(
        f"{figure} {limit * 100:g} {'points' if figure in _IN_POINTS else '%'}"
        for figure, limit in THRESHOLDS.items()
    )
    return (
        f"Worse or better: a change of at least the threshold ({limits}) whose {CONFIDENCE:.0%} "
        f"interval, over draws of at least {MIN_QUESTIONS} questions, leaves out zero."
    )
