"""A report as text: for a terminal, as Markdown, as CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from dflash_app.cli.terminal import printable
from dflash_app.errors import RequestError
from dflash_app.ui.format import (
    UNKNOWN,
    format_count,
    format_decimal,
    format_duration,
    format_percent,
    format_ratio,
    format_speed,
)

from .counts import Counts, say_counts
from .published import Beside
from .report import Line, Report, report_json, say_hardware, say_settings
from .results import BenchmarkResults, to_json
from .tables import cell, columns, pipes

Table = tuple[Sequence[str], list[list[str]]]
"""Header and rows."""

_Columns = dict[str, Callable[[Line], str]]
"""How each column writes a line."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_text(report: Report) -> str:
    """The report for a terminal."""
    parts = [_head(report), *(columns(*_figures(report, each)) for each in (_SPEEDS, _TIMES))]
    if report.published:
        notes = [f"({number}) {note}" for note, number in _footnotes(report).items()]
        parts.append("Published beside measured:\n" + columns(*_published(report)))
        parts.append("\n".join(notes))
    parts.append("\n".join(map(str, report.notes)))
    return printable("\n\n".join(filter(None, parts)))


def to_markdown(report: Report) -> str:
    """The report as a Markdown page."""
    title = f"# Benchmark {report.benchmark_id}: {cell(report.plan.pair)}"
    facts = "\n".join(f"- {cell(line)}" for line in _facts(report))
    parts = [title, facts, "## Measured", pipes(*_figures(report, _SPEEDS))]
    parts += [pipes(*_figures(report, _TIMES)), _MEANING]
    if report.published:
        notes = [f"{number}. {cell(note)}" for note, number in _footnotes(report).items()]
        parts += ["## Published beside measured", pipes(*_published(report)), "\n".join(notes)]
        parts.append(_PUBLISHED_MEANING)
    parts += [cell(str(note)) for note in report.notes]
    if report.command:
        parts += ["## The same again", f"```sh\n{' '.join(printable(report.command).split())}\n```"]
    return "\n\n".join(parts) + "\n"


def to_csv(report: Report) -> str:
    """The lines of the report as CSV: seconds, tokens a second and parts of one, as measured."""
    rows = [_flat(line) for line in report.lines]
    written = io.StringIO()
    writer = csv.DictWriter(written, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def write_files(results: BenchmarkResults, report: Report, folder: Path) -> list[Path]:
    """Write results.json (every prompt), report.json, report.csv and report.md.

    Raises:
        RequestError: the folder cannot be written.
    """
    texts = {
        "results.json": to_json(results),
        "report.json": report_json(report),
        "report.csv": to_csv(report),
        "report.md": to_markdown(report),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(
            f"{folder} cannot be written ({error.strerror}): name another folder."
        ) from error
    return [folder / name for name in texts]


_MEANING = (
    "Speedup: median over prompts of the ratio of decoding speeds, against plain decoding of the "
    "same prompt. Speedup by mean time per token: that of plain decoding over the method's, as the "
    "paper's script says it. Speedup end to end: the ratio of the throughputs end to end, as model "
    "cards say it: all output tokens by the time in which any request was under way, prefill "
    "included. Decoding: tokens of one request after its first. docs/metrics.md "
    "defines the rest."
)
_PUBLISHED_MEANING = (
    'Measured speedups here are of the published kind: "decoding" divides mean times per output '
    'token, as the paper\'s script does; "end to end" divides throughputs, as model cards do.'
)


def _head(report: Report) -> str:
    return "\n".join([f"Benchmark {report.benchmark_id}: {report.plan.pair}", *_facts(report)])


def _facts(report: Report) -> list[str]:
    versions = ", ".join(f"{name} {each}" for name, each in report.library_versions.items())
    counts = report.counts
    asked = [f"Asked: {_say_asked(counts)}"] if counts else []
    return [
        *asked,
        f"Settings: {say_settings(report.plan, report.num_questions)}",
        f"Machine: {say_hardware(report.hardware)}",
        f"Versions: DFlash Studio {report.app_version}, {versions}",
        f"Begun: {report.created_at:%Y-%m-%d %H:%M} UTC",
    ]


def _say_asked(counts: Counts) -> str:
    return f"{say_counts(counts)}: {counts.num_prompts:,} prompts"


def _figures(report: Report, written: _Columns) -> Table:
    """The report's lines; a column in which nothing is known is left out."""
    place = _PLACE | (_AT_A_TIME if report.plan.concurrency != (1,) else {})
    told = {
        name: write
        for name, write in (place | written).items()
        if any(write(line) not in ("", UNKNOWN) for line in report.lines)
    }
    return list(told), [[write(line) for write in told.values()] for line in report.lines]


def _published(report: Report) -> Table:
    labels = {line.method: line.label for line in report.lines}
    header = (
        "data set", "method", "at a time", "there", "kind", "speedup there", "here",
        "acceptance there", "here", "settings", "note",
    )  # fmt: skip
    numbers = _footnotes(report)
    rows = [
        [
            each.dataset,
            labels[each.method],
            str(each.concurrency),
            format_count(each.published_concurrency),
            each.kind,
            format_ratio(each.published_speedup),
            format_ratio(each.measured_speedup),
            format_decimal(each.published_acceptance_length),
            format_decimal(each.measured_acceptance_length),
            "alike" if each.alike else "differ",
            str(numbers[_footnote(each)]),
        ]
        for each in report.published
    ]
    return header, rows


def _footnotes(report: Report) -> dict[str, int]:
    """Where published figures are from and how they differ, numbered."""
    notes = dict.fromkeys(map(_footnote, report.published))
    return {note: number for number, note in enumerate(notes, start=1)}


def _footnote(each: Beside) -> str:
    block = f"block size {each.published_block_size}" if each.published_block_size else ""
    setup = ", ".join(filter(None, (each.setup, block))) or "setup not told"
    differs = f" Differs: {'; '.join(map(str, each.differences))}." if each.differences else ""
    return f"{each.pair}, {each.source} ({setup}).{differs}"


def _speedup(line: Line) -> str:
    if line.speedup is None:
        return UNKNOWN
    return f"{format_ratio(line.speedup)} ({line.num_pairs})"


def _acceptance(line: Line) -> str:
    return format_decimal(line.acceptance_length) + (" (shared)" if line.acceptance_shared else "")


def _score(line: Line) -> str:
    return UNKNOWN if line.score is None else f"{format_percent(line.score)} of {line.num_scored}"


def _same(line: Line) -> str:
    return UNKNOWN if not line.num_pairs else f"{line.num_identical} of {line.num_pairs}"


def _quartiles(line: Line) -> str:
    found = line.speedup_quartiles
    return " to ".join(map(format_ratio, found)) if found else UNKNOWN


def _answered(line: Line) -> str:
    failed = f", {line.num_failed} failed" if line.num_failed else ""
    return f"{format_count(line.num_answered)}{failed}"


_PLACE: _Columns = {
    "data set": lambda line: line.dataset,
    "method": lambda line: line.label,
}
_AT_A_TIME: _Columns = {"at a time": lambda line: str(line.concurrency)}
_SPEEDS: _Columns = {
    "prompts": _answered,
    "speedup (pairs)": _speedup,
    "end to end": lambda line: format_speed(line.end_to_end_tok_s),
    "decoding": lambda line: format_speed(line.decode_tok_s),
    "acceptance": _acceptance,
    "right": _score,
    "same text as AR": _same,
}
_TIMES: _Columns = {
    "first token, median (TTFT p50)": lambda line: format_duration(line.ttft_p50_s),
    "first token, 95 % (TTFT p95)": lambda line: format_duration(line.ttft_p95_s),
    "each token, median (TPOT p50)": lambda line: format_duration(line.tpot_p50_s),
    "each token, 95 % (TPOT p95)": lambda line: format_duration(line.tpot_p95_s),
    "speedup, middle half (quartiles)": _quartiles,
    "speedup by mean time per token (TPOT)": lambda line: format_ratio(line.speedup_mean_tpot),
    "speedup end to end": lambda line: format_ratio(line.speedup_end_to_end),
    "runs on": lambda line: line.runs_on,
}


def _flat(line: Line) -> dict[str, object]:
    """A line as a row of plain values; no text of it is a formula to a spreadsheet."""
    row = asdict(line)
    first, third = row.pop("speedup_quartiles") or (None, None)
    row |= {"speedup_first_quartile": first, "speedup_third_quartile": third}
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
        for name, value in row.items()
    }
