"""The Benchmark tab: start, follow, stop, go on; what was measured, and two of them compared."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.ui.components import render_notice
from dflash_app.ui.handed_out import COPY_JS
from dflash_app.ui.model_bar import FOLLOWING
from dflash_app.ui.pair_facts import find_pair
from dflash_app.ui.shell import Page

from .background import Background, Standing
from .benches import Benches
from .command_line import command_of
from .comparing import Comparing, build_comparing, connect_comparing
from .counts import counts_of
from .deletion import Deletion, build_deletion
from .form import Form, build_form, connect_form
from .going import render_going, render_nothing
from .listing import ACT_JS, MAX_LISTED, render_list
from .opened import (
    QUIET,
    Asked,
    Opened,
    Update,
    ask_for,
    build_opened,
    connect_opened,
    render_command,
)
from .plan import read_plan
from .reading import check_file, read_form
from .words import texts

AT_ONCE_JS = """() => '<div class="race-command"><code>…</code></div>'"""
"""Stands where the command will, until the server has answered."""
TICK_S = 1.0
"""Between two looks at a benchmark that goes on."""

Seen = tuple[object, ...] | None


@dataclass(frozen=True, slots=True)
class BenchTab:
    """The tab's widgets and the page they are on.

    Attributes:
        notice: why something could not be done.
        live: how far the benchmark is that goes on.
        going: its number, None where none goes on; what follows from its end follows its changes.
        seen: what of it was drawn last.
        earlier: the list.
    """

    page: Page
    benches: Benches
    form: Form
    start: gr.Button
    notice: gr.HTML
    asked_command: gr.HTML
    live: gr.HTML
    going: gr.State
    seen: gr.State
    timer: gr.Timer
    earlier: gr.HTML
    opened: Opened
    comparing: Comparing
    deletion: Deletion

    @property
    def following(self) -> list[Any]:
        """What changes with the benchmark that goes on."""
        return [self.live, self.seen, self.going, self.timer]

    @property
    def listed(self) -> list[Any]:
        """What changes with the benchmarks that there are."""
        return [self.earlier, self.comparing.before, self.comparing.after]

    def on_show(self, asked: Asked | None, brought: Any, seen: Seen, request: gr.Request) -> Update:
        """Show what goes on, and list what there is; what failed stays where it was read only."""
        if seen is None:
            self._bench(request).dismiss(only_told=True)
        return {**self._follow(request), **self._list(asked, brought, request)}

    def on_pair(self, request: gr.Request) -> Update:
        """Another pair: what was said of the one before is over."""
        return {self.asked_command: "", **self._forget(request)}

    def on_start(self, gradio_request: gr.Request, *values: Any) -> Iterator[Update]:
        """Begin what the form asks for; its questions may come from the network."""
        yield {self.notice: render_notice(texts.say("loading_questions"))}
        num_bar = len(self.page.bar.inputs)
        try:
            plan, files = read_form(self.page, values[:num_bar], values[num_bar:])
            self.page.admit(gradio_request)
            self._bench(gradio_request).start(plan, files)
        except DFlashAppError as error:
            yield {self.notice: render_notice(self.page.told(error), "error")}
            return
        yield {self.notice: "", self.asked_command: "", **self._follow(gradio_request)}

    def on_command(self, *values: Any) -> Update:
        """Say the command that measures what the form asks for."""
        num_bar = len(self.page.bar.inputs)
        try:
            plan, _ = read_form(self.page, values[:num_bar], values[num_bar:])
        except DFlashAppError as error:
            return {
                self.notice: render_notice(self.page.told(error), "error"),
                self.asked_command: "",
            }
        pair = find_pair(self.page.workspace, plan.pair)
        return {self.notice: "", self.asked_command: render_command(command_of(plan, pair))}

    def on_stop(self, request: gr.Request) -> None:
        """Cancel the prompt that is asked within one step; the next look says so."""
        self._bench(request).stop()

    def on_tick(self, seen: Seen, request: gr.Request) -> tuple[Any, Any, Any]:
        """Draw how far it is, where that has changed: panel, what was seen, whether it goes on."""
        standing = self._bench(request).standing()
        now = _key(standing)
        if standing is None:
            return gr.skip(), None, None
        if now == seen:
            return gr.skip(), gr.skip(), gr.skip()
        going = standing.progress.benchmark_id if standing.running else None
        return self._draw(standing), now, going

    def on_turn(
        self, going: int | None, asked: Asked | None, brought: Any, request: gr.Request
    ) -> Update:
        """One has begun or ended: list it, and open it at its end."""
        standing = self._bench(request).standing()
        update: Update = {self.timer: gr.Timer(TICK_S, active=going is not None)}
        if going is None and standing is not None and standing.progress.num_done > 0:
            asked = ask_for(standing.progress.benchmark_id)
            update[self.opened.asked] = asked
        return {**update, **self._list(asked, brought, request)}

    def on_deleted(self, asked: Asked | None, brought: Any, request: gr.Request) -> Update:
        """List what is left, and show no longer what is gone."""
        update: Update = {}
        try:
            if asked is not None:
                self.page.workspace.store.benchmarks.get(asked[0])
        except DFlashAppError:
            asked = update[self.opened.asked] = None
        return {**update, **self._list(asked, brought, request)}

    def on_act(self, request: gr.Request, event: gr.EventData) -> Update:
        """Do what a row's button says."""
        asked = event._data.get("value") or {}
        act, chosen = asked.get("act"), asked.get("benchmark")
        if not isinstance(chosen, int):
            return {self.notice: gr.skip()}
        if act == "open":
            return {self.opened.asked: ask_for(chosen), **self._forget(request)}
        if act == "resume":
            return self._resume(chosen, request)
        if act == "delete":
            return {self.notice: "", **self.deletion.ask(chosen)}
        return {self.notice: gr.skip()}

    def on_files(self, paths: list[str] | None) -> str:
        """Say at once how many questions files ask, or which line is wrong."""
        try:
            counts = [check_file(Path(path)) for path in paths or ()]
        except DFlashAppError as error:
            return render_notice(str(error), "error")
        told = texts.say("files_told", num_questions=sum(counts)) if counts else ""
        return render_notice(told, "success")

    def _resume(self, number: int, request: gr.Request) -> Update:
        try:
            self.page.workspace.store.benchmarks.get(number, self.page.owner(request))
            self.page.admit(request)
            self._bench(request).resume(number)
        except DFlashAppError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}
        return {self.notice: "", **self._follow(request)}

    def _follow(self, request: gr.Request) -> Update:
        """The benchmark that goes on or went on last; looked at again while it goes on."""
        standing = self._bench(request).standing()
        if standing is None:
            return {self.live: render_nothing(), self.seen: None, self.going: None}
        running = standing.running
        return {
            self.live: self._draw(standing),
            self.seen: _key(standing),
            self.going: standing.progress.benchmark_id if running else None,
            self.timer: gr.Timer(TICK_S, active=running),
        }

    def _forget(self, request: gr.Request) -> Update:
        """Say no more of what could not be done."""
        bench = self._bench(request)
        bench.dismiss()
        return {self.notice: ""} | ({} if bench.standing() else {self.live: render_nothing()})

    def _draw(self, standing: Standing) -> str:
        benchmarks = self.page.workspace.store.benchmarks
        number = standing.progress.benchmark_id
        problem = None if standing.problem is None else self.page.told(standing.problem)
        try:
            record = benchmarks.get(number)
            plan, measured = read_plan(record.plan), benchmarks.measured(number)
            return render_going(standing, plan, counts_of(record, plan), measured, problem)
        except DFlashAppError:  # it was deleted: what could not begin is not kept
            return render_notice(problem, "error") if problem else render_nothing()

    def _list(self, asked: Asked | None, brought: Any, request: gr.Request) -> Update:
        try:
            records = self.page.workspace.store.benchmarks.latest(
                limit=MAX_LISTED + 1, owner=self.page.owner(request)
            )
        except DFlashAppError as error:
            return {self.earlier: render_notice(self.page.told(error), "error")}
        opened = None if asked is None else asked[0]
        drawn = render_list(records, opened, may_delete=self.deletion.may_delete(request))
        return {self.earlier: drawn, **self.comparing.offer(records, brought)}

    def _bench(self, request: gr.Request) -> Background:
        return self.benches.of(self.page.owner(request))


def build(page: Page) -> None:
    """Build the tab."""
    gr.HTML(f'<p class="servers-intro">{texts.label("intro")}</p>')
    form = build_form(page)
    with gr.Row(elem_classes="bench-acts"):
        start = gr.Button(
            texts.label("start"), variant="primary", scale=0, min_width=160,
            elem_id="bench-start", elem_classes="while-idle",
        )  # fmt: skip
        stop = gr.Button(
            texts.label("stop"), variant="stop", scale=0, min_width=160, elem_id="bench-stop",
            elem_classes="while-busy",
        )  # fmt: skip
        command = gr.Button(
            texts.label("as_command"), scale=0, min_width=160, elem_id="bench-as-command"
        )
    notice = gr.HTML(elem_id="bench-notice")
    asked_command = gr.HTML(elem_id="bench-asked-command", js_on_load=COPY_JS)
    live = gr.HTML(render_nothing(), elem_id="bench-live")
    gr.HTML(f"<h2 class='bench-title'>{texts.label('earlier')}</h2>")
    earlier = gr.HTML(elem_id="bench-earlier", js_on_load=ACT_JS)
    deletion = build_deletion(page)
    opened, files = build_opened(page)
    comparing = build_comparing(page)
    tab = BenchTab(
        page, Benches(page.workspace, page.runs.turn), form, start, notice, asked_command, live,
        gr.State(None), gr.State(None), gr.Timer(TICK_S, active=False), earlier, opened, comparing,
        deletion,
    )  # fmt: skip
    connect_form(form, page)
    connect_opened(opened, files)
    connect_comparing(comparing)
    _connect(tab, stop, command)


def _connect(tab: BenchTab, stop: gr.Button, command: gr.Button) -> None:
    """Three parts: what is asked, what goes on, and what there is."""
    form_values = [*tab.page.bar.inputs, *tab.form.inputs]
    looking = [tab.opened.asked, tab.comparing.brought]
    shown = [*tab.following, *tab.listed]
    tab.page.tab.select(tab.on_show, [*looking, tab.seen], shown, **QUIET)
    over = [tab.notice, tab.asked_command, tab.live]
    tab.page.bar.pair.change(tab.on_pair, None, over, **FOLLOWING)
    begun = [tab.notice, tab.asked_command, *tab.following]
    tab.start.click(tab.on_start, form_values, begun, **QUIET)
    command.click(None, None, tab.asked_command, js=AT_ONCE_JS, **QUIET)
    command.click(tab.on_command, form_values, [tab.notice, tab.asked_command], **QUIET)
    stop.click(tab.on_stop, None, None, **QUIET | {"queue": False})
    if not tab.page.public:
        tab.form.files.change(tab.on_files, tab.form.files, tab.notice, **QUIET)
    tab.timer.tick(tab.on_tick, tab.seen, [tab.live, tab.seen, tab.going], **QUIET)
    turned = [tab.timer, tab.opened.asked, *tab.listed]
    tab.going.change(tab.on_turn, [tab.going, *looking], turned, **QUIET)
    acted = [tab.notice, tab.opened.asked, *tab.following, *tab.deletion.asking]
    tab.earlier.select(tab.on_act, None, acted, **QUIET)
    tab.deletion.keep.click(tab.deletion.on_keep, None, tab.deletion.asking, **QUIET)
    confirmed = tab.deletion.confirm.click(
        tab.deletion.on_confirm, tab.deletion.asked, tab.deletion.asking, **QUIET
    )
    confirmed.then(tab.on_deleted, looking, [tab.opened.asked, *tab.listed], **QUIET)


def _key(standing: Standing | None) -> Seen:
    """Changes when the panel has to be drawn again."""
    if standing is None:
        return None
    progress = standing.progress
    place = progress.cell.key if progress.cell else None
    return (
        progress.benchmark_id, progress.num_done, progress.num_failed, progress.finished, place,
        standing.running, standing.stopped, standing.num_before,
    )  # fmt: skip
