"""The page's stage serves the plugins' tabs too."""

from tests.ui.conftest import close_loops, open_stage

__all__ = ["close_loops", "open_stage"]
