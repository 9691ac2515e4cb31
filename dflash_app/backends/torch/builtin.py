"""Registers PyTorch as a backend; imports no tensor library."""

from typing import Any

from dflash_app.backends.torch.backend import TorchBackend
from dflash_app.engine.protocol import Backend
from dflash_app.hookspecs import hookimpl


@hookimpl
def register_backends() -> list[Backend[Any]]:
    """PyTorch on CPU, CUDA and MPS."""
    return [TorchBackend()]
