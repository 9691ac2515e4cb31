"""Gradio for the page's tests: quiet, without calls home, nothing left open."""

import os
from collections.abc import Callable, Iterator

import pytest

from dflash_app.settings import Settings
from dflash_app.workspace import Workspace
from tests.fakes import ScriptedPair
from tests.ui.loops import close_loops

__all__ = ["close_loops", "open_stage"]

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

StageOpener = Callable[[Callable[[], ScriptedPair]], Workspace]


@pytest.fixture
def open_stage(settings: Settings) -> Iterator[StageOpener]:
    from tests.ui import stage

    opened: list[Workspace] = []

    def open_one(make: Callable[[], ScriptedPair]) -> Workspace:
        opened.append(stage.open_stage(settings, make))
        return opened[-1]

    yield open_one
    for workspace in opened:
        workspace.close()
