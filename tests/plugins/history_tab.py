"""The History tab of a workspace, its events called as the browser fires them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from typing import Any

import gradio as gr
import pytest

from dflash_app.metrics import RunMetrics
from dflash_app.store.records import RunEnd, RunFilter, RunStart
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import Page, build_page
from dflash_app.workspace import Workspace
from tests.fakes import ask
from tests.ui.conftest import StageOpener
from tests.ui.stage import find_handler, texts, two_lanes, visitor

EVERYTHING = {
    "text": "", "pair": "all", "mode": "all", "end": "all", "backend": "all", "source": "all",
    "task": "all", "since": "", "until": "",
}  # fmt: skip


class History:
    """The tab of one workspace.

    Attributes:
        looking: what the browser tab looks at by now.
        matching: the filter that its table was last shown with.
        asked: what a deletion asks about.
        shown: the newest value of each element.
        boxes: what the boxes above the table say by now.
    """

    def __init__(self, workspace: Workspace, *, local: bool = True) -> None:
        self.workspace = workspace
        self._local = local
        self.looking = part("table").Looking()
        self.matching = RunFilter()
        self.asked: Any = None
        self.shown: dict[str, Any] = {}
        self.boxes = values({})

    @cached_property
    def blocks(self) -> gr.Blocks:
        return build_page(self.workspace, LiveRuns(), local_folders=self._local)

    def show(self, **filters: str) -> dict[str, Any]:
        self.boxes = values(filters)
        return self.call("HistoryTab.on_show", self.looking, visitor(), *self.boxes)

    def rows(self, **filters: str) -> list[int]:
        """Numbers of the runs on the table's page, from its top."""
        self.show(**filters)
        return self.table()

    def table(self) -> list[int]:
        drawn = self.shown["history-table"]
        return [int(found) for found in re.findall(r'<tr data-run="(\d+)"', drawn)]

    def act(self, **asked: Any) -> dict[str, Any]:
        """A click in the table: `open=3`, `sort="speed"`, `page=1`, `marked=[1], of=[1, 2]`."""
        event = gr.EventData(None, {"value": asked})
        return self.call("HistoryTab.on_act", self.looking, self.matching, visitor(), event)

    def tick(self, *run_ids: int) -> dict[str, Any]:
        return self.act(marked=list(run_ids), of=self.table())

    def charts(self, **filters: str) -> dict[str, Any]:
        self.show(**filters)
        return self.call("HistoryTab.on_charts", self.matching, visitor())

    def call(self, name: str, *arguments: Any) -> dict[str, Any]:
        return self.note(find_handler(self.blocks, name)(*arguments))

    def play(self, name: str, *arguments: Any) -> list[dict[str, Any]]:
        """Every update of an event that tells how it comes along."""
        return [self.note(update) for update in find_handler(self.blocks, name)(*arguments)]

    def note(self, update: dict[Any, Any]) -> dict[str, Any]:
        for widget, value in list(update.items()):
            if isinstance(widget, gr.State):
                if isinstance(value, part("table").Looking):
                    self.looking = value
                elif isinstance(value, RunFilter):
                    self.matching = value
                else:
                    self.asked = value
                del update[widget]
        shown = texts(update)
        self.shown |= shown
        return shown


def part(name: str) -> Any:
    """A module of the plugin; known once a workspace has loaded the plugins."""
    return import_module(f"dflash_plugins.history.{name}")


def values(filters: dict[str, str]) -> list[str]:
    return list((EVERYTHING | filters).values())


@pytest.fixture
def history(open_stage: StageOpener) -> History:
    """Three runs: a race, then =1+1 in a chat."""
    workspace = open_stage(two_lanes)
    loaded = workspace.loaded("scripted")
    list(workspace.race(loaded, [ask(mode="ar"), ask(mode="dflash")]))
    list(workspace.run(loaded, ask("=1+1 <b>bold</b>", mode="ar"), source="chat"))
    return History(workspace)


def add_run(
    workspace: Workspace,
    *,
    end: RunEnd = "stop",
    output: str = "text",
    token_ids: tuple[int, ...] = (1, 2, 3),
    speed: float | None = 10.0,
    length: float | None = None,
    **start: Any,
) -> int:
    """A run that was recorded somewhere, with these settings."""
    known: dict[str, Any] = {"mode": "ar", "source": "chat", "pair": "scripted"}
    known |= {"backend": "torch", "device": "cpu", "dtype": "float32"}
    known["messages"] = ({"role": "user", "content": start.pop("prompt", "hi")},)
    run_id = workspace.store.start_run(RunStart(**known | start))
    metrics = RunMetrics(
        num_prompt_tokens=5, num_output_tokens=len(token_ids), num_steps=2, decode_tok_s=speed,
        mean_acceptance_length=length,
    )  # fmt: skip
    workspace.store.finish_run(run_id, end, output=output, token_ids=token_ids, metrics=metrics)
    return run_id


@contextmanager
def owned_by(owner: str | None) -> Iterator[None]:
    """Every browser is this visitor, as on a public page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Page, "owner", lambda _, __: owner)
        yield
