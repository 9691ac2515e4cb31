"""Drafter folders: every format that is read, and z-lab's, which is also written.

Only safetensors are opened and no code from a folder is ever run.
"""

from dflash_app.backends.torch.formats.checkpoint import load_drafter, save_drafter
from dflash_app.backends.torch.formats.fits import check_fits
from dflash_app.backends.torch.formats.recognise import check_format

__all__ = ["check_fits", "check_format", "load_drafter", "save_drafter"]
