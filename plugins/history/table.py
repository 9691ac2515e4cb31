"""Records as rows, as a CSV file, and one of them in full."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict

from dflash_app.metrics import RunMetrics
from dflash_app.store.records import RunRecord, RunStart
from dflash_app.ui.format import (
    UNKNOWN,
    escape_html,
    format_count,
    format_decimal,
    format_duration,
    format_excerpt,
    format_percent,
    format_speed,
    format_when,
    well_formed,
)

HEADERS = ["Id", "When", "Pair", "Mode", "tok/s", "Acceptance", "Tokens", "End", "Prompt"]
TYPES = ["number", "str", "str", "str", "number", "number", "number", "str", "str"]
WIDTHS = ["64px", "178px", "150px", "88px", "88px", "112px", "88px", "112px", "330px"]
_MODES = {"ar": "AR", "dflash": "DFlash"}


def table_rows(runs: Sequence[RunRecord]) -> list[list[str | float]]:
    """One row a run, in the order of `HEADERS`; numbers stay numbers, so that they sort as such."""
    return [
        [
            run.id,
            format_when(run.start.started_at),
            run.start.pair,
            _MODES.get(run.start.mode, run.start.mode),
            _rounded(run.metrics.decode_tok_s, 1),
            _rounded(run.metrics.mean_acceptance_length, 2),
            run.metrics.num_output_tokens,
            run.finish_reason or "running",
            format_excerpt(run.start.prompt, 90),
        ]
        for run in runs
    ]


def to_csv(runs: Sequence[RunRecord]) -> str:
    """All figures of the runs, one line each, unknown ones empty. Times are UTC.

    Text that a spreadsheet would run as a formula gets a leading apostrophe.
    """
    columns = ["id", "started_at", "source", "pair", "backend", "device", "dtype"]
    columns += ["quantization", "drafter_quantization", "path", "drafter_path", "rollback_kind"]
    columns += ["mode", "policy"]
    columns += ["block_size", "trained_block_size", "temperature", "top_p", "top_k", "min_p"]
    columns += ["repetition_penalty", "seed", "finish_reason", "prompt", "output", "error"]
    figures = [
        name
        for name in RunMetrics.__dataclass_fields__
        if name not in ("acceptance_by_position", "acceptance_histogram")
    ]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns + figures)
    for run in runs:
        known = asdict(run.start) | asdict(run.metrics)
        known |= {
            "id": run.id,
            "started_at": run.start.started_at.isoformat(),
            "finish_reason": run.finish_reason,
            "prompt": run.start.prompt,
            "output": run.output,
            "error": run.error,
        }
        writer.writerow([_cell(known[name]) for name in columns + figures])
    return file.getvalue()


def render_detail(run: RunRecord) -> str:
    """Everything about one run, as inert HTML."""
    facts = "".join(
        f"<div><dt>{escape_html(label)}</dt><dd>{escape_html(value)}</dd></div>"
        for label, value in _facts(run)
    )
    parts = [f"<h3>Run {run.id}</h3><dl class='run-facts'>{facts}</dl>"]
    if run.error:
        parts.append(f"<h3>Error</h3><pre>{escape_html(run.error)}</pre>")
    for message in run.start.messages:
        role, content = message.get("role", ""), message.get("content", "")
        parts.append(f"<h3>{escape_html(role)}</h3><pre>{escape_html(content)}</pre>")
    parts.append(f"<h3>output</h3><pre>{escape_html(run.output) or UNKNOWN}</pre>")
    return f'<div class="run-detail">{"".join(parts)}</div>'


def render_no_detail(text: str = "Choose a run in the table to see all of it.") -> str:
    """The place of the detail before a run is chosen."""
    return f'<div class="run-detail">{escape_html(text)}</div>'


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    start, metrics = run.start, run.metrics
    block = "" if start.block is None else f", block size {start.block}"
    drafts = "" if start.policy is None else f", {start.policy} drafts"
    reused = f" ({metrics.num_reused_tokens:,} reused)" if metrics.num_reused_tokens else ""
    rates = metrics.acceptance_by_position
    return [
        ("When", format_when(start.started_at)),
        ("Pair", f"{start.pair} on {start.backend}, {start.device}, {start.precision}"),
        ("Path", start.paths or UNKNOWN),
        ("Mode", _MODES.get(start.mode, start.mode) + block + drafts),
        ("Rollback", start.rollback_kind or UNKNOWN),
        ("Sampling", _sampling(start)),
        ("From", start.source),
        ("End", run.finish_reason or "running"),
        ("Speed", f"{format_speed(metrics.decode_tok_s)} decoding, "
                  f"{format_speed(metrics.end_to_end_tok_s)} with prefill"),
        ("First token", format_duration(metrics.ttft_s)),
        ("Time", format_duration(metrics.total_s)),
        ("Tokens", f"{format_count(metrics.num_prompt_tokens)} in{reused}, "
                   f"{format_count(metrics.num_output_tokens)} out, {metrics.num_steps:,} steps"),
        ("Acceptance length", format_decimal(metrics.mean_acceptance_length)),
        ("By position", " · ".join(format_percent(rate) for rate in rates) or UNKNOWN),
        ("Machine", str(start.hardware.get("cpu") or UNKNOWN)),
        ("Versions", ", ".join(f"{name} {v}" for name, v in start.library_versions.items())),
    ]  # fmt: skip


def _sampling(start: RunStart) -> str:
    parts = ["greedy"]
    if start.temperature > 0:
        parts = [f"temperature {start.temperature:g}", f"top-p {start.top_p:g}"]
        parts += [f"top-k {start.top_k}", f"min-p {start.min_p:g}"]
    if start.repetition_penalty != 1:
        parts.append(f"repetition penalty {start.repetition_penalty:g}")
    if start.temperature > 0 and start.seed is not None:
        parts.append(f"seed {start.seed}")
    return ", ".join(parts)


def _rounded(value: float | None, digits: int) -> float | str:
    return UNKNOWN if value is None else round(value, digits)


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = well_formed(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
