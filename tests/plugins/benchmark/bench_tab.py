"""The Benchmark tab of a workspace, its events called as the browser fires them."""

import time
from dataclasses import fields
from typing import Any

import gradio as gr
from dflash_plugins.benchmark.form import Form
from dflash_plugins.benchmark.tab import BenchTab

from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace
from tests.ui.stage import find_handler, visitor

ASKED = {
    "datasets": [], "files": None, "num_prompts": None, "modes": ["ar", "dflash"],
    "block_sizes": ["auto"], "policies": ["fixed"], "repetitions": 1, "warm_up": 0,
    "temperature": 0, "seed": 0, "thinking": "auto", "max_new_tokens": 64, "concurrency": ["1"],
    "baseline": "none",
}  # fmt: skip
assert list(ASKED) == [each.name for each in fields(Form)]


class Bench:
    """The tab, and what stands on the page by now.

    Attributes:
        shown: the newest value of each element, by elem_id.
        opened: what `Opened.asked` holds.
        going: what `BenchTab.going` holds.
    """

    def __init__(self, workspace: Workspace, *, local: bool = True, session: str = "one") -> None:
        self.workspace, self.session = workspace, session
        self.runs = LiveRuns()
        self.blocks = build_page(workspace, self.runs, local_folders=local)
        self.tab: BenchTab = find_handler(self.blocks, "BenchTab.on_show").__self__  # type: ignore[attr-defined]
        self.shown: dict[str, Any] = {}
        self.opened: tuple[int, float] | None = None
        self.going: int | None = None
        self._seen: Any = None

    @property
    def asking(self) -> gr.Request:
        return visitor(self.session)

    def start(self, pair: str = "embedded", **asked: Any) -> dict[str, Any]:
        """Press Start; what the second update changed."""
        _, shown = [self.note(each) for each in self._started(pair, asked)] or [{}, {}]
        return shown

    def command(self, pair: str = "embedded", **asked: Any) -> dict[str, Any]:
        return self.note(self.tab.on_command(*self.values(pair, asked)))

    def show(self) -> dict[str, Any]:
        return self.note(self.tab.on_show(self.opened, (), self._seen, self.asking))

    def reload(self) -> dict[str, Any]:
        """A page that is loaded anew knows nothing of what the one before drew."""
        self.shown, self.opened, self.going, self._seen = {}, None, None, None
        return self.show()

    def act(self, act: str, benchmark: int) -> dict[str, Any]:
        """Press a button of the list."""
        event = gr.EventData(None, {"value": {"act": act, "benchmark": benchmark}})
        return self.note(self.tab.on_act(self.asking, event))

    def follow(self, until: str, timeout_s: float = 20.0) -> str:
        """Look again and again until the panel says it, then once more at what follows."""
        deadline = time.monotonic() + timeout_s
        while until not in self.shown.get("bench-live", ""):
            assert time.monotonic() < deadline, self.shown.get("bench-live")
            time.sleep(0.01)
            drawn, seen, going = self.tab.on_tick(self._seen, self.asking)
            if isinstance(drawn, str):
                self.shown["bench-live"], self._seen, self.going = drawn, seen, going
        self.note(self.tab.on_turn(self.going, self.opened, (), self.asking))
        return str(self.shown["bench-live"])

    def open(self) -> dict[str, Any]:
        """What follows where a benchmark is asked for."""
        return self.note(self.tab.opened.on_open(self.opened, self.asking))

    def note(self, update: dict[Any, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for widget, value in update.items():
            if widget is self.tab.opened.asked:
                self.opened = value
            elif widget is self.tab.going:
                self.going = value
            elif widget is self.tab.seen:
                self._seen = value
            elif widget.elem_id:
                told[widget.elem_id] = value
        self.shown |= told
        return told

    def values(self, pair: str, asked: dict[str, Any]) -> list[Any]:
        remote = self.workspace.registry.get(pair).remote
        bar = [pair, pair, "auto", "auto", "auto", "remote" if remote else "torch"]
        return [*bar, *(ASKED | asked).values()]

    def _started(self, pair: str, asked: dict[str, Any]) -> Any:
        return self.tab.on_start(self.asking, *self.values(pair, asked))
