"""What was measured, as a file for machines and a table for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import dflash_app
from dflash_app.store.fingerprint import hardware_fingerprint, library_versions

MORE_LIBRARIES = ("gradio", "playwright", "dflash")
"""Versions that matter to the page's figures and the peers', and that no run's record holds."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure and the target it has to meet.

    Attributes:
        name: what was measured, with its unit.
        value: the figure; None where nothing could be measured, which misses the target.
        sense: whether `limit` is the least or the most that will do, or the first value that will
            not.
        limit: of the target.
    """

    name: str
    value: float | None
    sense: Literal["at least", "at most", "below"]
    limit: float

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        if self.value is None:
            return False
        if self.sense == "at least":
            return self.value >= self.limit
        return self.value <= self.limit if self.sense == "at most" else self.value < self.limit

    def __str__(self) -> str:
        shown = "unknown" if self.value is None else f"{self.value:.3g}"
        verdict = "ok    " if self.met else "MISSED"
        return f"{verdict} {self.name}: {shown} ({self.sense} {self.limit:g})"


def environment() -> dict[str, Any]:
    """On what, with what and when."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "app_version": dflash_app.__version__,
        "hardware": hardware_fingerprint(),
        "library_versions": library_versions() | _more_versions(),
    }


def _more_versions() -> dict[str, str]:
    found = {}
    for name in MORE_LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device_names(device: Any) -> str:
    """A torch device with its model: "cuda:0 (NVIDIA H200)"."""
    if device.type != "cuda":
        return str(device)
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda})"


def write_results(path: Path, results: Mapping[str, Any], checks: Sequence[Check]) -> None:
    """Write figures and checks as JSON, floats to five digits."""
    verdicts = [asdict(check) | {"met": check.met} for check in checks]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded({**results, "checks": verdicts}), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns of text, numbers to three digits, None as a dash."""
    lines = [tuple(header), *(tuple(_shown(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if cell >= 100 else f"{cell:.2f}"
    return str(cell)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
