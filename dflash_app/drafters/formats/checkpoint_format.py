"""What one tool's way of writing drafters differs in from z-lab's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dflash_app.drafters.marks import FormatName, RawConfig


@dataclass(frozen=True, slots=True)
class CheckpointFormat:
    """How to read the drafters of one tool.

    Attributes:
        name: as its users know it.
        to_zlab: rewrites a parsed config.json in z-lab's keys.
        renamed: tensors that are called otherwise: name in the file -> name in `DFlashDrafter`.
        needless: tensors that are left alone: they follow from others or served training.
    """

    name: FormatName
    to_zlab: Callable[[RawConfig], dict[str, Any]]
    renamed: Mapping[str, str] = field(default_factory=dict)
    needless: tuple[str, ...] = ()
