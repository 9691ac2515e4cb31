"""Serve the page; Spaces run this file, people may prefer `dflash-app serve`."""

import sys

from dflash_app.errors import DFlashAppError
from dflash_app.ui.serve import serve
from dflash_app.workspace import open_workspace

if __name__ == "__main__":
    try:
        serve(open_workspace())
    except DFlashAppError as error:
        sys.exit(str(error))
