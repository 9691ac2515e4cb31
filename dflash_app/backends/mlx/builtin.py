"""Registers MLX as a backend; imports no tensor library."""

from typing import Any

from dflash_app.backends.mlx.backend import MlxBackend
from dflash_app.engine.protocol import Backend
from dflash_app.hookspecs import hookimpl


@hookimpl
def register_backends() -> list[Backend[Any]]:
    """MLX on Apple Silicon, and on the CPU elsewhere."""
    return [MlxBackend()]
