"""Drafter folders: every format that is read, and z-lab's, which is also written.

Only safetensors are opened and no code from a folder is ever run.
"""

from dflash_app.backends.torch.formats.checkpoint import (
    Checkpoint,
    load_drafter,
    open_checkpoint,
    save_drafter,
)
from dflash_app.backends.torch.formats.fits import check_fits, misfits
from dflash_app.backends.torch.formats.recognise import check_format

__all__ = [
    "Checkpoint",
    "check_fits",
    "check_format",
    "load_drafter",
    "misfits",
    "open_checkpoint",
    "save_drafter",
]
