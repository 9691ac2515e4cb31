"""The Microscope tab: choose a run, step through its blocks, see what limits it, try what helps."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.context import Context

from dflash_app.advisor.finding import Change, Finding
from dflash_app.errors import DFlashAppError
from dflash_app.ui.components import render_notice, render_status, run_status
from dflash_app.ui.flow import Update, connect_flow
from dflash_app.ui.live import LiveRun
from dflash_app.ui.shell import Page

from .advice import name_trial, render_finding, render_headline, render_trial, say_progress
from .charts import chart_along, chart_lengths, chart_positions, chart_time
from .opened import MAX_FINDINGS, Opened, choices, list_runs, open_run
from .render import render_block, render_empty, render_summary, render_time, words
from .specimen import Specimen
from .trial import Trial, TrialEvent

PLACE = "microscope"
CHARTS = {
    "positions": chart_positions,
    "lengths": chart_lengths,
    "along": chart_along,
    "time": chart_time,
}
_KEYS = Path(__file__).with_name("keys.js").read_text(encoding="utf-8")
_LINKS = Path(__file__).with_name("links.js").read_text(encoding="utf-8")
_WANTED = """(opened) => {
    const run = window.microscopeRun ?? null;
    window.microscopeRun = null;
    return [opened, run];
}"""
"""Adds the run that a link leads to, see links.js."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one finding."""

    row: gr.Row
    text: gr.HTML
    button: gr.Button


@dataclass(frozen=True, slots=True)
class MicroscopeTab:
    """The tab's widgets and the page they are on."""

    page: Page
    chosen: gr.Dropdown
    opened: gr.State
    notice: gr.HTML
    summary: gr.HTML
    stepper: gr.Row
    slider: gr.Slider
    block: gr.HTML
    time: gr.HTML
    charts: tuple[gr.Plot, ...]
    plots: gr.Column
    headline: gr.HTML
    slots: tuple[Slot, ...]
    tried: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """Everything that a run fills."""
        widgets = [part for slot in self.slots for part in (slot.row, slot.text, slot.button)]
        return [
            self.chosen, self.opened, self.notice, self.summary, self.stepper, self.slider,
            self.block, self.time, *self.charts, self.plots, self.headline, *widgets, self.tried,
        ]  # fmt: skip

    def on_show(self, opened: Opened | None, wanted: float | None, request: gr.Request) -> Update:
        """List the newest runs, and open one where none is open.

        Args:
            opened: what is open.
            wanted: the run that a link leads to; None opens the newest.
            request: who asks.
        """
        try:
            runs = list_runs(self.page, request)
        except DFlashAppError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}
        if wanted is None and opened is not None:
            return {self.chosen: choices(runs, opened.run.record)}
        if wanted is None and not runs:
            return {**self.nothing(words.say("no_runs")), self.chosen: choices([], None)}
        update = self.on_open(runs[0].id if wanted is None else int(wanted), request)
        shown = update[self.opened]
        return {**update, self.chosen: choices(runs, shown.run.record if shown else None)}

    def on_open(self, run_id: int | str | None, request: gr.Request) -> Update:
        """Put a run under the microscope."""
        if run_id is None:
            return self.nothing(words.say("choose"))
        try:
            opened = open_run(self.page, int(run_id), request)
        except DFlashAppError as error:
            return self.nothing(self.page.told(error))
        run, found = opened.run, opened.diagnosis
        update: Update = {
            self.opened: opened,
            self.notice: "",
            self.summary: render_summary(run),
            self.time: render_time(run),
            self.headline: render_headline(found),
            self.plots: gr.Column(visible=bool(run.steps or run.arrivals)),
            self.tried: "",
            **{plot: draw(run) for plot, draw in zip(self.charts, CHARTS.values(), strict=True)},
            **self._findings(opened),
        }
        if not run.steps:
            return update | {self.stepper: gr.Row(visible=False), self.block: ""}
        slider = gr.Slider(1, max(2, len(run.steps)), value=1, interactive=len(run.steps) > 1)
        stepper = {self.stepper: gr.Row(visible=True), self.slider: slider}
        return update | stepper | {self.block: render_block(run, 0)}

    def nothing(self, text: str) -> Update:
        """No run is open; `text` says why."""
        hidden: Update = {slot.row: gr.Row(visible=False) for slot in self.slots}
        empty = dict.fromkeys([self.block, self.time, self.headline, self.tried, self.notice], "")
        return {
            **hidden,
            **empty,
            self.opened: None,
            self.summary: render_empty(text),
            self.stepper: gr.Row(visible=False),
            self.plots: gr.Column(visible=False),
        }

    def on_block(self, opened: Opened | None, number: float) -> Update:
        """Show the block that the slider stands on."""
        if opened is None or not opened.run.steps:
            return {self.block: ""}
        return {self.block: render_block(opened.run, _clamp(opened.run, number) - 1)}

    def on_step(self, opened: Opened | None, number: float, by: int) -> Update:
        """Go on, or back, by one block."""
        if opened is None or not opened.run.steps:
            return {self.block: ""}
        there = _clamp(opened.run, _clamp(opened.run, number) + by)
        return {self.slider: there, self.block: render_block(opened.run, there - 1)}

    def on_try(self, index: int, request: gr.Request, *values: Any) -> Iterator[Update]:
        """Run the prompt as it was and with the change of a finding, and compare."""
        opened: Opened | None = values[0]
        finding = opened.finding(index) if opened else None
        if opened is None or finding is None or not self._may_try(finding):
            yield {self.tried: ""}
            return
        change = cast(Change, finding.change)
        trial = Trial(opened.run.record.start, change, finding.gain)
        owner = self.page.owner(request)
        run = self.page.start(request, PLACE, lambda: trial.run(self.page.workspace, owner))
        yield {self.notice: "", self.tried: _busy(run, trial)}
        for items in run.looks():
            trial.add(items)
            if run.phase != "ended":
                yield {self.tried: _busy(run, trial)}
        yield self._ending(run, trial, finding)

    def on_stop(self, request: gr.Request) -> None:
        """Cancel the trial within one step."""
        self.page.stop(request, PLACE)

    def _may_try(self, finding: Finding) -> bool:
        """A visitor of a public page must not make the others wait for a pair to be loaded."""
        return finding.change is not None and not (self.page.public and finding.change.reloads)

    def _ending(self, run: LiveRun[TrialEvent], trial: Trial, finding: Finding) -> Update:
        if run.error is not None:
            return {self.tried: render_notice(str(run.error), "error")}
        if run.broken:
            return {self.tried: render_notice(words.say("tried_broken"), "error")}
        if not trial.pairs:
            return {self.tried: render_notice(words.say("tried_stopped"))}
        return {self.tried: render_trial(trial, finding)}

    def _findings(self, opened: Opened) -> Update:
        update: Update = {}
        for index, slot in enumerate(self.slots):
            finding = opened.finding(index)
            update[slot.row] = gr.Row(visible=finding is not None)
            if finding is None:
                continue
            update[slot.text] = render_finding(finding, opened.diagnosis, index + 1)
            offered = self._may_try(finding)
            update[slot.button] = gr.Button(name_trial(finding), visible=offered)
        return update


def build(page: Page) -> None:
    """Build the tab."""
    with gr.Row(elem_classes="model-bar"):
        chosen = gr.Dropdown(
            [], label=words.label("run"), info=words.label("run_info"), scale=8, min_width=240,
            elem_id="microscope-run",
        )  # fmt: skip
        refresh = gr.Button(words.label("refresh"), min_width=100, elem_id="microscope-refresh")
    notice = gr.HTML(elem_id="microscope-notice")
    summary = gr.HTML(elem_id="microscope-summary")
    with gr.Row(visible=False, elem_id="microscope-stepper") as stepper:
        back = gr.Button(words.label("previous"), min_width=90, elem_id="microscope-previous")
        slider = gr.Slider(
            1, 2, value=1, step=1, label=words.label("block"), info=words.label("block_info"),
            scale=6, min_width=200, elem_id="microscope-block",
        )  # fmt: skip
        forward = gr.Button(words.label("next"), min_width=90, elem_id="microscope-next")
    block = gr.HTML(elem_id="microscope-step")
    headline = gr.HTML(elem_id="microscope-why")
    slots = tuple(_build_slot(index) for index in range(MAX_FINDINGS))
    stop = gr.Button(
        words.label("stop"), variant="stop", size="sm", elem_id="microscope-stop",
        elem_classes="while-busy",
    )  # fmt: skip
    tried = gr.HTML(elem_id="microscope-tried")
    time = gr.HTML(elem_id="microscope-time")
    with gr.Column(visible=False) as plots:
        charts = _build_charts()
    tab = MicroscopeTab(
        page, chosen, gr.State(None), notice, summary, stepper, slider, block, time, charts, plots,
        headline, slots, tried,
    )  # fmt: skip
    _connect(tab, refresh, back, forward, stop)


def _build_slot(index: int) -> Slot:
    with gr.Row(visible=False, elem_classes="scope-slot") as row:
        text = gr.HTML(elem_id=f"microscope-finding-{index}")
        button = gr.Button("", size="sm", scale=0, min_width=190, elem_id=f"microscope-try-{index}")
    return Slot(row, text, button)


def _build_charts() -> tuple[gr.Plot, ...]:
    names, plots = list(CHARTS), []
    for first in (0, 2):
        with gr.Row():
            plots += [
                gr.Plot(show_label=False, label=name, min_width=320, elem_id=f"chart-scope-{name}")
                for name in names[first : first + 2]
            ]
    return tuple(plots)


def _connect(tab: MicroscopeTab, *buttons: gr.Button) -> None:
    refresh, back, forward, stop = buttons
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    last: dict[str, Any] = quiet | {"trigger_mode": "always_last", "concurrency_limit": None}
    wanted = gr.Number(visible="hidden")
    listed: dict[str, Any] = {"inputs": [tab.opened, wanted], "outputs": tab.shown, **quiet}
    tab.page.tab.select(tab.on_show, js=_WANTED, **listed)
    refresh.click(tab.on_show, **listed)
    tab.page.tab.select(None, js=_KEYS, **quiet)
    blocks: Any = Context.root_block
    blocks.load(None, js=_LINKS, **quiet)
    tab.chosen.input(
        tab.on_open, tab.chosen, tab.shown, show_progress="minimal", api_visibility="private"
    )
    tab.slider.input(tab.on_block, [tab.opened, tab.slider], tab.block, **last)
    for button, by in ((back, -1), (forward, 1)):
        button.click(
            tab.on_step, [tab.opened, tab.slider, gr.State(by)], [tab.slider, tab.block], **last
        )
    flow = gr.State(None)
    for index, slot in enumerate(tab.slots):
        connect_flow(
            [slot.button.click],
            tab.on_try,
            flow,
            inputs=[gr.State(index), tab.opened],
            outputs=[tab.notice, tab.tried],
            live=[tab.tried],
        )
    stop.click(tab.on_stop, queue=False, **quiet)


def _clamp(run: Specimen, number: float) -> int:
    return max(1, min(int(number or 1), len(run.steps)))


def _busy(run: LiveRun[TrialEvent], trial: Trial) -> str:
    if run.phase == "running":
        return render_status(say_progress(trial), busy=True)
    said = run_status(run.phase, None, num_before=run.num_before, loading_s=run.loading_s)
    return render_status(said, busy=True)
