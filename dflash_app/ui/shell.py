"""The page: one model bar above tabs that built-ins and plugins add alike."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, TypeVar

import gradio as gr

from dflash_app.engine.protocol import LoadedPair
from dflash_app.errors import PairNotReady, StoreError
from dflash_app.hookspecs import Tab
from dflash_app.store.fingerprint import hardware_fingerprint
from dflash_app.store.records import RunFilter, RunRecord
from dflash_app.ui.add_pair import build_add_pair
from dflash_app.ui.components import Level, render_notice, render_notices
from dflash_app.ui.live import LiveRun, LiveRuns
from dflash_app.ui.model_bar import (
    Choice,
    ModelBar,
    build_model_bar,
    connect_model_bar,
    read_choice,
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
    """

    workspace: Workspace
    bar: ModelBar
    tab: gr.Tab
    runs: LiveRuns

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

        A message may be sent before the drafter box has followed a change of the pair: a drafter
        of another target gives way to the pair's own, which is what the box is about to show.

        Args:
            values: of `bar.inputs`.

        Raises:
            RequestError, UnknownPair: a value that no box offers.
        """
        choice, pair = read_choice(values), str(values[0] or "")
        if choice.pair == pair:
            return choice
        registry = self.workspace.registry
        fitting = registry.drafters_for(registry.get(pair).target)
        return choice if registry.get(choice.pair) in fitting else replace(choice, pair=pair)

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
        return self.workspace.loaded(choice.pair, options)

    def ar_speed(
        self, pair: str, device: str, dtype: str, quantization: str | None = None
    ) -> float | None:
        """Speed of the page's last run of `pair` without drafter here, None = unknown."""
        try:
            runs = self._plain_runs(pair)
        except StoreError:
            return None  # a log that cannot be read stops no chat
        here = machine_key(hardware_fingerprint())
        for run in runs:
            start = run.start
            same = (start.device, start.dtype, start.quantization) == (device, dtype, quantization)
            speed = run.metrics.decode_tok_s
            if same and speed is not None and machine_key(run.start.hardware) == here:
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


def build_page(workspace: Workspace, runs: LiveRuns, *, local_folders: bool = False) -> gr.Blocks:
    """Build the whole page. A tab that cannot be built says why in its place.

    Args:
        workspace: what it shows.
        runs: what is being decoded for which browser tab.
        local_folders: take folders of this machine for a new pair, unless Gradio shares the page.
    """
    blocks: gr.Blocks
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(_MASTHEAD)
        problems = gr.HTML(elem_id="problems")
        bar = build_model_bar(workspace)
        connect_model_bar(bar, workspace)
        build_add_pair(workspace, bar, lambda: local_folders and not blocks.share)
        with gr.Tabs(elem_id="tabs"):
            for tab in workspace.plugins.hook.register_tabs():
                _build_tab(tab, workspace, bar, runs)
        problems.value = render_problems(workspace)

        def refresh(name: str | None) -> dict[Any, Any]:
            return refresh_model_bar(bar, workspace, name)

        def leave(request: gr.Request) -> None:
            runs.leave(session_of(request))

        shown = [bar.pair, bar.drafter, bar.block_size, bar.facts]
        blocks.load(
            refresh, bar.pair, shown, show_progress="hidden", api_visibility="private"
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


def _build_tab(tab: Tab, workspace: Workspace, bar: ModelBar, runs: LiveRuns) -> None:
    plugins = workspace.plugins
    name = _TAB + tab.title
    with gr.Tab(tab.title, elem_id=f"tab-{tab.title.lower().replace(' ', '-')}") as shown:
        page = Page(workspace, bar, shown, runs)
        if plugins.attempt(name, lambda: _call_build(tab, page)):
            return
        shown.children.clear()  # what a broken build has left half made
        reasons = [problem.reason for problem in plugins.problems if problem.name == name]
        gr.HTML(render_notice(f"This tab cannot be shown: {'; '.join(reasons)}", "error"))


def _call_build(tab: Tab, page: Page) -> bool:
    module, _, function = tab.build.partition(":")
    getattr(import_module(module), function)(page)
    return True
