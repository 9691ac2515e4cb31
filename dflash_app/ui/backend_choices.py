"""What the model bar offers for a backend: its name, its precisions, its devices."""

import platform
from pathlib import Path
from typing import Any

from dflash_app.errors import UnknownPair
from dflash_app.registry.pair import REMOTE_BACKEND
from dflash_app.ui.choice import AUTO
from dflash_app.ui.language import Texts
from dflash_app.workspace import Workspace

Choices = list[tuple[Any, str]]
"""What an option says, as it is or as a key for the browser, and its value."""

texts = Texts.load("bar", Path(__file__).with_name("texts") / "bar.yaml")
"""Of the model bar and of the line below it."""

TITLES = {"torch": "PyTorch", "mlx": "MLX", REMOTE_BACKEND: texts.label("server")}

_AUTO = (texts.label("auto"), AUTO)
_DTYPES = [(name, name) for name in ("float32", "bfloat16", "float16")]
_QUANTIZATIONS = {
    "torch": [("nf4 (4-bit)", "nf4"), ("int8 (8-bit)", "int8")],
    "mlx": [("4-bit", "4bit"), ("8-bit", "8bit")],
}


def backend_choices(workspace: Workspace, pair: str | None) -> Choices:
    """The backends that can run a pair here, the default one first; "auto" where none can."""
    try:
        names = workspace.backends_for(pair or "")
    except UnknownPair:
        names = []
    return [(TITLES.get(name, name), name) for name in names] or [_AUTO]


def precision_choices(backend: str | None) -> Choices:
    """What a backend computes in, and what it can store the target's weights as."""
    if backend == REMOTE_BACKEND:
        return [_AUTO]  # the server was started with its own
    return [_AUTO, *_DTYPES, *_QUANTIZATIONS.get(backend or "", [])]


def device_choices(backend: str | None) -> Choices:
    """Devices to offer, told without importing a tensor library."""
    if backend == REMOTE_BACKEND:
        return [_AUTO]
    devices: Choices = [_AUTO, ("CPU", "cpu")]
    on_apple_silicon = platform.system() == "Darwin" and platform.machine() == "arm64"
    if backend == "mlx":
        return [*devices, ("Apple GPU", "gpu")] if on_apple_silicon else devices
    devices += [
        (f"GPU {index}", f"cuda:{index}")
        for index, _ in enumerate(sorted(Path("/dev").glob("nvidia[0-9]*")))
    ]
    return [*devices, ("Apple GPU", "mps")] if on_apple_silicon else devices
