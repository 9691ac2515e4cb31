"""The page: one model bar above tabs that built-ins and plugins add alike."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from dflash_app.advisor.case import PAGE_SOURCES
from dflash_app.engine.protocol import ON_SERVER, LoadedPair
from dflash_app.errors import PairNotReady, StoreError
from dflash_app.hookspecs import Tab
from dflash_app.plugins import Plugins
from dflash_app.spaces.public import hide_paths
from dflash_app.spaces.visitors import Visitors, is_secure
from dflash_app.store.fingerprint import hardware_fingerprint
from dflash_app.store.records import RunFilter, RunRecord, RunStart
from dflash_app.ui.add_pair import build_add_pair
from dflash_app.ui.choice import Choice, read_choice
from dflash_app.ui.components import Level, render_notice, render_notices
from dflash_app.ui.format import escape_html
from dflash_app.ui.idle_work import leave_out_statuses
from dflash_app.ui.language import LANGUAGES, Texts
from dflash_app.ui.live import LiveRun, LiveRuns
from dflash_app.ui.model_bar import (
    BAR_EVENT,
    ModelBar,
    build_model_bar,
    connect_model_bar,
    refresh_model_bar,
)
from dflash_app.workspace import Workspace

_texts = Texts.load("shell", Path(__file__).with_name("texts") / "shell.yaml")

ItemT = TypeVar("ItemT")

TITLE = "DFlash Studio"

_TAB = "tab "
_KEYS = (
    ("key_send", "Enter"),
    ("key_line", "Shift Enter"),
    ("key_stop", "Esc"),
    ("key_new_chat", "Ctrl/⌘ Shift O"),
    ("key_message", "/"),
    ("key_tabs", "← →"),
)
"""What keyboard.js and Gradio's text boxes listen to; the first member is the text's key."""


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
        visitors: tells the visitors of a public page apart; None on one's own machine.
    """

    workspace: Workspace
    bar: ModelBar
    tab: gr.Tab
    runs: LiveRuns
    local: Callable[[], bool]
    visitors: Visitors | None = None

    @property
    def public(self) -> bool:
        """Whether strangers use the page, each of whom sees only what is their own."""
        return self.visitors is not None

    def owner(self, request: gr.Request) -> str | None:
        """Whose chats and runs the browser that asks may see; None: this machine's own."""
        if self.visitors is None:
            return None
        asked = request.request
        if asked is None:
            return self.visitors.owner({}, request.session_hash)
        secure = is_secure(asked.headers.get("x-forwarded-proto", ""), asked.url.scheme)
        return self.visitors.owner(asked.cookies, request.session_hash, secure=secure)

    def told(self, error: object) -> str:
        """A sentence of the app as who uses the page may read it: strangers see no places."""
        return hide_paths(str(error)) if self.public else str(error)

    def start(
        self,
        request: gr.Request,
        place: str,
        source: Callable[[], Iterator[ItemT]],
    ) -> LiveRun[ItemT]:
        """Start a run for a browser tab; `source` may load models, it runs in its own thread."""
        owner = self.owner(request)
        return self.runs.start(
            session_of(request), place, source, owner, lambda: self.admit(request)
        )

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
        if self.public:
            # One visitor must not make the others wait while a pair is loaded in another precision.
            choice = replace(choice, backend=None, dtype=None, device=None, quantization=None)
        elif choice.backend not in self.workspace.backends_for(pair):
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
            raise PairNotReady(self.told(state.reason or f"{choice.pair} cannot be loaded here."))

    def load(self, choice: Choice) -> LoadedPair:
        """The chosen pair; its drafter comes along wherever it is here, so that modes share it.

        Raises:
            UnknownPair, PairNotReady, BackendUnavailable, LoadError: see `Workspace.loaded`.
        """
        options, lacking = choice.options(), self.workspace.state(choice.pair).drafter_dir is None
        if choice.mode == "ar" and lacking and not self.workspace.registry.get(choice.pair).remote:
            options = replace(options, drafter=False)
        return self.workspace.loaded(choice.pair, options, choice.backend)

    def ar_speed(self, loaded: LoadedPair) -> float | None:
        """Speed of the page's last whole run without drafter of a pair loaded alike, or None."""
        try:
            runs = self._plain_runs(loaded.name)
        except StoreError:
            return None  # a log that cannot be read stops no chat
        here = machine_key(hardware_fingerprint())
        for run in runs:
            speed = run.metrics.decode_tok_s
            alike = _place(run.start) == _place(loaded)
            if run.whole and alike and speed and machine_key(run.start.hardware) == here:
                return speed
        return None

    def admit(self, request: gr.Request) -> None:
        """Count a run against what a visitor may begin in an hour.

        Raises:
            QueueFull: it is one too many.
        """
        owner = self.owner(request)
        if self.visitors is not None and owner is not None:
            asked = request.request
            headers, client = (asked.headers, asked.client) if asked else ({}, None)
            self.visitors.admit(owner, headers, client.host if client else None)

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
    # Of a server the log does not always tell the address; the pair's name stands for it.
    device = None if run.dtype == ON_SERVER else run.device
    return (run.backend, device, run.dtype, run.quantization, run.path)


def build_page(workspace: Workspace, runs: LiveRuns, *, local_folders: bool = False) -> gr.Blocks:
    """Build the whole page. A tab that cannot be built says why in its place.

    Args:
        workspace: what it shows.
        runs: what is being decoded for which browser tab.
        local_folders: only people of this machine reach the page, unless Gradio shares it: they may
            name folders of it, download and delete.
    """
    from dflash_app.ui.api import build_api  # it needs `Page`

    blocks: gr.Blocks
    limits = workspace.settings.public
    visitors = Visitors(limits.max_per_hour) if limits else None
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        masthead = gr.HTML(render_masthead(), elem_id="masthead")
        problems = gr.HTML(elem_id="problems")
        bar = build_model_bar(workspace)
        connect_model_bar(bar, workspace)

        def local() -> bool:
            return local_folders and not blocks.share

        if visitors is None:
            build_add_pair(workspace, bar, local)
        tabs = workspace.plugins.hook.register_tabs()
        titles = Texts.know("tabs", {tab.title: _titles(tab) for tab in tabs})
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap"):
            for tab in tabs:
                _build_tab(
                    tab,
                    titles.label(tab.title),
                    workspace.plugins,
                    lambda shown: Page(workspace, bar, shown, runs, local, visitors),
                )
        build_api(Page(workspace, bar, gr.Tab(render=False), runs, local, visitors))
        problems.value = render_problems(workspace)

        def refresh(*values: Any) -> dict[Any, Any]:
            return {
                masthead: render_masthead(),
                problems: render_problems(workspace),
                **refresh_model_bar(bar, workspace, values),
            }

        def leave(request: gr.Request) -> None:
            runs.leave(session_of(request))

        shown = [masthead, problems, bar.pair, *bar.follows_pair]
        # The page was built once, in English; pairs were added and downloaded since.
        blocks.load(refresh, bar.inputs, shown, **BAR_EVENT)
        blocks.unload(leave)  # a closed browser tab stops its runs
        leave_out_statuses(blocks)
    return blocks


def render_masthead() -> str:
    """The page's name, and its keys to unfold."""
    keys = "".join(
        f"<div><dt>{''.join(f'<kbd>{key}</kbd>' for key in keys.split())}</dt>"
        f"<dd>{escape_html(_texts.say(name))}</dd></div>"
        for name, keys in _KEYS
    )
    return (
        f'<header class="masthead"><h1><span aria-hidden="true">⚡</span> {TITLE}</h1>'
        f"<p>{escape_html(_texts.say('tagline'))}</p>"
        f'<details class="keys"><summary>{escape_html(_texts.say("keys"))}</summary>'
        f"<dl>{keys}</dl></details></header>"
    )


def render_problems(workspace: Workspace) -> str:
    """What does not work and how to cure it: store, registry, plugins."""
    notices: list[tuple[str, Level]] = []
    if workspace.store_problem:
        kept = _texts.say("store_problem", reason=workspace.store_problem)
        notices.append((kept, "warning"))
    notices += [(str(problem), "warning") for problem in workspace.registry.problems]
    notices += [
        (_texts.say("plugin_problem", name=problem.name, reason=problem.reason), "warning")
        for problem in workspace.plugins.problems
        if not problem.name.startswith(_TAB)  # told in its place
    ]
    if workspace.settings.public is not None:
        notices = [(hide_paths(said), level) for said, level in notices]
    return render_notices(notices)


def _titles(tab: Tab) -> dict[str, str]:
    return {language: tab.titles.get(language, tab.title) for language in LANGUAGES}


def _build_tab(tab: Tab, title: Any, plugins: Plugins, page_of: Callable[[gr.Tab], Page]) -> None:
    name = _TAB + tab.title
    with gr.Tab(title, elem_id=f"tab-{tab.title.lower().replace(' ', '-')}") as shown:
        page = page_of(shown)
        if plugins.attempt(name, lambda: _call_build(tab, page)):
            return
        shown.children.clear()  # what a broken build has left half made
        reasons = [problem.reason for problem in plugins.problems if problem.name == name]
        said = _texts.say("tab_problem", reason="; ".join(reasons))
        gr.HTML(render_notice(said, "error"))


def _call_build(tab: Tab, page: Page) -> bool:
    module, _, function = tab.build.partition(":")
    getattr(import_module(module), function)(page)
    return True
