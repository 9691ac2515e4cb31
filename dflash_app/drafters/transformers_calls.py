"""Calling transformers' loaders: without its noise, and with its errors understood."""

import logging as standard_logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils import logging

_logging: Any = logging

DAMAGE = (
    SafetensorError, StrictDataclassError, OSError, ValueError, RuntimeError, LookupError,
    TypeError, AttributeError, ArithmeticError, AssertionError,
)  # fmt: skip
"""What transformers raises for damaged or strange files, its own error classes included."""


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no loading reports on the user's terminal."""
    verbosity = _logging.get_verbosity()
    bars = _logging.is_progress_bar_enabled()
    _logging.set_verbosity_error()
    # It tells of offloaded weights, which the app tells itself.
    standard_logging.getLogger("accelerate.big_modeling").setLevel(standard_logging.ERROR)
    _logging.disable_progress_bar()
    try:
        yield
    finally:
        _logging.set_verbosity(verbosity)
        if bars:
            _logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first line of a library's message, short enough for one sentence."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
