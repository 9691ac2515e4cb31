"""Sentences of a report as values, so that each surface says them in its own language."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

WORDS = Path(__file__).with_name("report.yaml")


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence of report.yaml; as a text it is English.

    Attributes:
        key: of the entry.
        values: fill its `{names}`.
    """

    key: str
    values: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return _entries()[self.key]["en"].format(**self.values)


def remark(key: str, **values: object) -> Remark:
    """A remark whose values are written as they are."""
    return Remark(key, {name: str(value) for name, value in values.items()})


@cache
def _entries() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    return found
