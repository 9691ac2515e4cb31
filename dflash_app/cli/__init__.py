"""The command line `dflash-app`."""

from dflash_app.cli.app import main

__all__ = ["main"]
