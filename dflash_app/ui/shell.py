"""The page: one model bar above tabs that built-ins and plugins add alike."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, TypeVar

import gradio as gr

from dflash_app.engine.protocol import LoadedPair
from dflash_app.errors import PairNotReady, StoreError
from dflash_app.hookspecs import Tab
from dflash_app.plugins import Plugins
from dflash_app.store.fingerprint import hardware_fingerprint
from dflash_app.store.records import RunFilter, RunRecord, RunStart
from dflash_app.ui.add_pair import build_add_pair
from dflash_app.ui.choice import Choice, read_choice
from dflash_app.ui.components import Level, render_notice, render_notices
from dflash_app.ui.live import LiveRun, LiveRuns
from dflash_app.ui.model_bar import (
    ModelBar,
    build_model_bar,
    connect_model_bar,
    refresh_model_bar,
)
from dflash_app.workspace import Workspace

ItemT = TypeVar("ItemT")

TITLE = "DFlash Studio"
PAGE_SOURCES = ("chat", "race")
"""Runs of the page itself: others may have had other threads, so their speeds say nothing here."""

_TAB = "tab "
_MASTHEAD = (
    '<header class="masthead"><h1><span>⚡</span> DFlash Studio</h1>'
    "<p>Speculative decoding beside plain decoding, on your own machine</p></header>"
)


@dataclass(slots=True)
class Page:
    """What a tab's `build(page)` is given.

    Attributes:
        workspace: pairs, models, run log.
        bar: the shared dropdowns; read them with `read(values of bar.inputs)`.
        runs: what is being decoded for which browser tab.
        tab: the tab that is being built, for its `select` event.
        local: whether only people of this machine reach the page; asked at every use, because
            Gradio may share it later.
    """

    workspace: Workspace
    bar: ModelBar
    tab: gr.Tab
    runs: LiveRuns
    local: Callable[[], bool]

    def start(
        self,
        request: gr.Request,
        place: str,
        source: Callable[[], Iterator[ItemT]],
    ) -> LiveRun[ItemT]:
        """Start a run for a browser tab; `source` may load models, it runs in its own thread."""
        return self.runs.start(session_of(request), place, source)

    def stop(self, request: gr.Request, place: str) -> None:
        """Stop the browser tab's run in `place`."""
        self.runs.stop(session_of(request), place)

    def drop(self, request: gr.Request, place: str) -> None:
        """Stop the browser tab's run in `place`, whose text must not come back."""
        self.runs.drop(session_of(request), place)

    def read(self, values: Sequence[Any]) -> Choice:
        """What the model bar says.

        A message may be sent before the boxes have followed a change of the pair: a drafter of
        another target, or a backend that does not run the pair, gives way to the pair's own, which
        is what the box is about to show.

        Args:
            values: of `bar.inputs`.

        Raises:
            RequestError, UnknownPair: a value that no box offers.
        """
        choice, pair = read_choice(values), str(values[0] or "")
        if choice.backend not in self.workspace.backends_for(pair):
            choice = replace(choice, backend=None)
        if choice.pair == pair:
            return choice
        registry = self.workspace.registry
        own, other = registry.get(pair), registry.get(choice.pair)
        fitting = other.drafter is not None and other.target.source == own.target.source
        return choice if fitting else replace(choice, pair=pair)

    def check_ready(self, choice: Choice) -> None:
        """Refuse a pair that is not on this machine before anything is started.

        Plain decoding asks for the target only.

        Raises:
            PairNotReady, UnknownPair: with what is missing and the cure.
        """
        state = self.workspace.state(choice.pair)
        plain = choice.mode == "ar" and state.target_dir is not None
        if state.status != "ready" and not plain:
            raise PairNotReady(state.reason or f"{choice.pair} cannot be loaded here.")

    def load(self, choice: Choice) -> LoadedPair:
        """The chosen pair; its drafter comes along wherever it is here, so that modes share it.

        Raises:
            UnknownPair, PairNotReady, BackendUnavailable, LoadError: see `Workspace.loaded`.
        """
        options = choice.options()
        if choice.mode == "ar" and self.workspace.state(choice.pair).drafter_dir is None:
            options = replace(options, drafter=False)
        return self.workspace.loaded(choice.pair, options, choice.backend)

    def ar_speed(self, loaded: LoadedPair) -> float | None:
        """Speed of the page's last run without drafter of a pair loaded alike, None = unknown."""
        try:
            runs = self._plain_runs(loaded.name)
        except StoreError:
            return None  # a log that cannot be read stops no chat
        here = machine_key(hardware_fingerprint())
        for run in runs:
            speed = run.metrics.decode_tok_s
            alike = _place(run.start) == _place(loaded)
            if alike and speed is not None and machine_key(run.start.hardware) == here:
                return speed
        return None

    def _plain_runs(self, pair: str) -> list[RunRecord]:
        """The page's runs of `pair` without drafter, newest first."""
        runs: list[RunRecord] = []
        for source in PAGE_SOURCES:
            filters = RunFilter(pair=pair, mode="ar", source=source)
            runs += self.workspace.store.list_runs(filters, limit=20)
        return sorted(runs, key=lambda run: run.id, reverse=True)


def session_of(request: gr.Request) -> str:
    """The browser tab that asks."""
    return request.session_hash or "no-session"


def machine_key(hardware: dict[str, Any]) -> tuple[object, ...]:
    """What of a fingerprint must agree for two speeds to be compared."""
    return (hardware.get("cpu"), hardware.get("cores"), tuple(hardware.get("gpus") or ()))


def _place(run: LoadedPair | RunStart) -> tuple[str | None, ...]:
    return (run.backend, run.device, run.dtype, run.quantization, run.path)


def build_page(workspace: Workspace, runs: LiveRuns, *, local_folders: bool = False) -> gr.Blocks:
    """Build the whole page. A tab that cannot be built says why in its place.

    Args:
        workspace: what it shows.
        runs: what is being decoded for which browser tab.
        local_folders: only people of this machine reach the page, unless Gradio shares it: they may
            name folders of it, download and delete.
    """
    blocks: gr.Blocks
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(_MASTHEAD)
        problems = gr.HTML(elem_id="problems")
        bar = build_model_bar(workspace)
        connect_model_bar(bar, workspace)

        def local() -> bool:
            return local_folders and not blocks.share

        build_add_pair(workspace, bar, local)
        with gr.Tabs(elem_id="tabs"):
            for tab in workspace.plugins.hook.register_tabs():
                _build_tab(
                    tab, workspace.plugins, lambda shown: Page(workspace, bar, shown, runs, local)
                )
        problems.value = render_problems(workspace)

        def refresh(name: str | None, backend: str | None) -> dict[Any, Any]:
            return refresh_model_bar(bar, workspace, name, backend)

        def leave(request: gr.Request) -> None:
            runs.leave(session_of(request))

        shown = [bar.pair, *bar.follows_pair]
        asked = [bar.pair, bar.backend]
        blocks.load(
            refresh, asked, shown, show_progress="hidden", api_visibility="private"
        )  # the page was built once, and pairs were added and downloaded since
        blocks.unload(leave)  # a closed browser tab stops its runs
    return blocks


def render_problems(workspace: Workspace) -> str:
    """What does not work and how to cure it: store, registry, plugins."""
    notices: list[tuple[str, Level]] = []
    if workspace.store_problem:
        notices.append((f"Runs are not kept: {workspace.store_problem}", "warning"))
    notices += [(str(problem), "warning") for problem in workspace.registry.problems]
    notices += [
        (f"The plugin {problem.name} is left out: {problem.reason}", "warning")
        for problem in workspace.plugins.problems
        if not problem.name.startswith(_TAB)  # told in its place
    ]
    return render_notices(notices)


def _build_tab(tab: Tab, plugins: Plugins, page_of: Callable[[gr.Tab], Page]) -> None:
    name = _TAB + tab.title
    with gr.Tab(tab.title, elem_id=f"tab-{tab.title.lower().replace(' ', '-')}") as shown:
        page = page_of(shown)
        if plugins.attempt(name, lambda: _call_build(tab, page)):
            return
        shown.children.clear()  # what a broken build has left half made
        reasons = [problem.reason for problem in plugins.problems if problem.name == name]
        gr.HTML(render_notice(f"This tab cannot be shown: {'; '.join(reasons)}", "error"))


def _call_build(tab: Tab, page: Page) -> bool:
    module, _, function = tab.build.partition(":")
    getattr(import_module(module), function)(page)
    return True
