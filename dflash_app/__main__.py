"""`python -m dflash_app` is `dflash-app`."""

import sys

from dflash_app.cli import main

sys.exit(main())
