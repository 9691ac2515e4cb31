"""What the model bar says, and how it asks the workspace for it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from dflash_app.engine.protocol import LoadOptions, Quantization
from dflash_app.errors import RequestError
from dflash_app.request import Mode

NO_DRAFTER = "none"
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model bar says.

    Attributes:
        pair: name of the pair to load.
        mode: "ar" where no drafter was chosen.
        block_size: None takes the drafter's own.
        dtype: None lets the backend choose.
        device: None lets the backend choose.
        quantization: of the target's weights.
        backend: None takes the pair's default.
    """

    pair: str
    mode: Mode
    block_size: int | None
    dtype: str | None
    device: str | None
    quantization: Quantization | None = None
    backend: str | None = None

    def options(self) -> LoadOptions:
        """How to load the pair while the page is served."""
        return LoadOptions(
            device=self.device,
            dtype=self.dtype,
            quantization=self.quantization,
            num_threads=page_threads(),
        )


def page_threads() -> int:
    """Compute threads while a browser may share the machine: all cores but one, at least one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores - 1)


def read_choice(values: Sequence[Any]) -> Choice:
    """Turn the values of `ModelBar.inputs` into a choice.

    Raises:
        RequestError: a block size that is no number.
    """
    pair, drafter, block_size, precision, device, backend = values
    plain = drafter in (None, NO_DRAFTER)
    return Choice(
        pair=str(pair or "") if plain else str(drafter),
        mode="ar" if plain else "dflash",
        block_size=None if plain else _block_size(block_size),
        dtype=None if precision in (None, AUTO, *get_args(Quantization)) else str(precision),
        device=None if device in (None, AUTO) else str(device),
        quantization=precision if precision in get_args(Quantization) else None,
        backend=None if backend in (None, AUTO) else str(backend),
    )


def _block_size(value: Any) -> int | None:
    if value in (None, AUTO):
        return None
    if not str(value).isdecimal() or len(str(value)) > 4:
        raise RequestError(f"{str(value)[:20]!r} is no block size: choose one from the list.")
    return int(value)
