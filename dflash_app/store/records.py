"""What a run's row holds, and how it is written and read."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal

import dflash_app
from dflash_app.errors import StoreCorrupt
from dflash_app.metrics import RunMetrics
from dflash_app.registry.pair import REMOTE_BACKEND
from dflash_app.store.fingerprint import hardware_fingerprint, library_versions

_EXACT = (
    "pair", "mode", "backend", "source", "group_id", "finish_reason", "task", "owner",
)  # fmt: skip
"""Columns that a filter compares as they are."""

MAX_TEXT_CHARS = 10_000
"""Of a text that is looked for: SQLite refuses patterns of more than 50,000 bytes."""

RunEnd = Literal["stop", "length", "cancelled", "failed", "interrupted"]
"""How a run ended: as in `FinishReason`, or failed with an error, or cut by a crash."""


@dataclass(frozen=True, slots=True)
class RunStart:
    """What is known when a run begins.

    Attributes:
        source: who asked: "chat", "race", "cli", "benchmark", "api".
        pair: its name in the registry.
        backend: that ran it: "torch", "mlx", "remote".
        device: "cpu", "cuda:0"; of a server its host and port, or for a visitor just "server".
        dtype: what was computed in; "server" where a server did.
        target_revision: commit of the target's files, None where unknown.
        drafter_revision: commit of the drafter's files, None where unknown or absent.
        mode: "ar" or "dflash".
        rollback_kind: how the target's caches forgot rejected tokens; None where not recorded.
        quantization: what the target's weights were stored as where that is not `dtype`, else None.
        drafter_quantization: the same of the drafter.
        path: how the target decoded: "static cache", "dynamic cache: recurrent layers", or a
            server's engine, "vLLM 0.32.0"; None where not recorded. Written again at the end, as a
            run may change it.
        drafter_path: how the drafter drafted, likewise; None in AR.
        policy: "fixed" or "adaptive" drafts, as asked; None in AR and where not recorded.
        block_size: anchor included; None in AR.
        trained_block_size: the drafter's own; a larger `block_size` is an experiment.
        seed: of the random state; None where nothing is drawn, and where adaptive drafts let no
            seed repeat the run.
        messages: the conversation, each {"role": ..., "content": ...}; the last is the user's.
        group_id: shared by the lanes of one race.
        owner: whose run it is: a visitor's key on a public page, None on one's own machine.
        task: what the prompt is one of, as a data set's name; None where nobody said.
        started_at: UTC.
    """

    source: str
    pair: str
    backend: str
    device: str
    dtype: str
    mode: str
    messages: tuple[dict[str, str], ...]
    target_revision: str | None = None
    drafter_revision: str | None = None
    rollback_kind: str | None = None
    quantization: str | None = None
    drafter_quantization: str | None = None
    path: str | None = None
    drafter_path: str | None = None
    policy: str | None = None
    block_size: int | None = None
    trained_block_size: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    thinking: str | None = None
    group_id: str | None = None
    owner: str | None = None
    task: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    app_version: str = dflash_app.__version__
    library_versions: dict[str, str] = field(default_factory=library_versions)
    hardware: dict[str, Any] = field(default_factory=hardware_fingerprint)

    @property
    def on_server(self) -> bool:
        """Whether a server ran it: what it computed in, and its steps, are not known."""
        return self.backend == REMOTE_BACKEND

    @property
    def precision(self) -> str:
        """What target and drafter were stored and computed in, as "nf4 in bfloat16"."""
        stored = f"{self.quantization} in {self.dtype}" if self.quantization else self.dtype
        if self.drafter_quantization:
            stored += f", drafter {self.drafter_quantization}"
        return stored

    @property
    def place(self) -> str:
        """Backend, device and precision in one phrase; a server's precision is not known."""
        return ", ".join(
            (self.backend, self.device, *(() if self.on_server else (self.precision,)))
        )

    @property
    def paths(self) -> str | None:
        """How target and drafter decoded, in one phrase."""
        return say_paths(self.path, self.drafter_path) if self.path else None

    @property
    def block(self) -> str | None:
        """The block size in words; None in AR."""
        if self.block_size is None:
            return None
        trained = self.trained_block_size
        if trained is None or self.block_size <= trained:
            return str(self.block_size)
        return f"{self.block_size} (experiment: trained for {trained})"

    @property
    def prompt(self) -> str:
        """The user's last message."""
        return self.messages[-1]["content"] if self.messages else ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One row of the run log.

    Attributes:
        id: counts up and is never given twice.
        start: what was asked.
        finish_reason: None while the run goes on.
        finished_at: UTC; None while the run goes on and for an interrupted one.
        output: the text; while the run goes on, what was saved last.
        token_ids: the output's tokens, likewise.
        metrics: figures; None in them means unknown.
        error: what failed, as the user was told.
    """

    id: int
    start: RunStart
    finish_reason: RunEnd | None
    finished_at: datetime | None
    output: str
    token_ids: tuple[int, ...]
    metrics: RunMetrics
    error: str | None

    @property
    def whole(self) -> bool:
        """It ended by itself, so that its speed counts: one that was cut tells of its beginning."""
        return self.finish_reason in ("stop", "length")


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None does not filter.

    Attributes:
        text: part of the prompt or the output, in any case of ASCII letters; what it has beyond
            `MAX_TEXT_CHARS` is not looked at.
        finish_reason: a reason, or "running".
        since: started at this time (with its zone) or later.
        until: started before this time (with its zone).
        owner: whose; a page that several people share must set it.
    """

    pair: str | None = None
    mode: str | None = None
    source: str | None = None
    group_id: str | None = None
    finish_reason: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    owner: str | None = None
    backend: str | None = None
    task: str | None = None

    def where(self) -> tuple[str, dict[str, Any]]:
        """The SQL condition ("1" for all) and its parameters."""
        conditions, values = ["1"], {}
        for column in _EXACT:
            value = getattr(self, column)
            if column == "finish_reason" and value == "running":
                conditions.append("finish_reason IS NULL")
            elif value is not None:
                conditions.append(f"{column} = :{column}")
                values[column] = value
        if self.text:
            conditions.append(r"(prompt LIKE :text ESCAPE '\' OR output LIKE :text ESCAPE '\')")
            values["text"] = f"%{_literal(storable(self.text[:MAX_TEXT_CHARS]))}%"
        if self.since is not None:
            conditions.append("started_at >= :since")
            values["since"] = time_text(self.since)
        if self.until is not None:
            conditions.append("started_at < :until")
            values["until"] = time_text(self.until)
        return " AND ".join(conditions), values


def say_paths(path: str, drafter_path: str | None) -> str:
    """How a pair decodes; the drafter is named where it differs."""
    return path if drafter_path in (None, path) else f"{path}, drafter {drafter_path}"


def start_row(start: RunStart) -> dict[str, Any]:
    """The columns of a run that begins."""
    row = {each.name: getattr(start, each.name) for each in fields(start)}
    for name in ("messages", "stop", "library_versions", "hardware"):
        row[name] = json.dumps(row[name])
    return row | {"started_at": time_text(start.started_at), "prompt": storable(start.prompt)}


def progress_row(output: str, token_ids: tuple[int, ...]) -> dict[str, Any]:
    """The columns that grow while a run goes on."""
    return {"output": storable(output), "token_ids": json.dumps(token_ids)}


def finish_row(reason: RunEnd, metrics: RunMetrics, error: str | None) -> dict[str, Any]:
    """The columns that a run's end fills."""
    figures = asdict(metrics)
    for name in ("acceptance_by_position", "acceptance_histogram"):
        figures[name] = json.dumps(figures[name])
    return figures | {
        "finish_reason": reason,
        "finished_at": time_text(datetime.now(UTC)),
        "error": None if error is None else storable(error),
    }


def read_record(row: Mapping[str, Any]) -> RunRecord:
    """A row as a record.

    Raises:
        StoreCorrupt: a column cannot be read.
    """
    try:
        return RunRecord(
            id=row["id"],
            start=_read_start(row),
            finish_reason=row["finish_reason"],
            finished_at=_read_time(row["finished_at"]),
            output=row["output"],
            token_ids=tuple(json.loads(row["token_ids"])),
            metrics=_read_metrics(row),
            error=row["error"],
        )
    except (ValueError, TypeError) as error:
        raise StoreCorrupt(f"run {row['id']} is damaged: {error}") from error


def _read_start(row: Mapping[str, Any]) -> RunStart:
    values = {each.name: row[each.name] for each in fields(RunStart)}
    for name in ("messages", "stop"):
        values[name] = tuple(json.loads(values[name]))
    for name in ("library_versions", "hardware"):
        values[name] = json.loads(values[name])
    return RunStart(**values | {"started_at": datetime.fromisoformat(row["started_at"])})


def _read_metrics(row: Mapping[str, Any]) -> RunMetrics:
    values = {each.name: row[each.name] for each in fields(RunMetrics)}
    known = {name: value for name, value in values.items() if value is not None}
    for name in ("acceptance_by_position", "acceptance_histogram"):
        if name in known:
            known[name] = tuple(json.loads(known[name]))
    for name in ("at_client", "acceptance_shared"):
        known[name] = bool(known[name])
    return RunMetrics(**known)


def _read_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def time_text(time: datetime) -> str:
    """A time as the store holds it."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")  # fixed width: sorts as text


def storable(text: str) -> str:
    """SQLite takes UTF-8 only, and half of a surrogate pair has none: it becomes "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _literal(text: str) -> str:
    """A text that means itself in a pattern of LIKE, which is quicker than instr."""
    return re.sub(r"([%_\\])", r"\\\1", text)
