"""The benchmark that is shown: its report, charts, files and command."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import escape_html
from dflash_app.ui.handed_out import COPY_JS, SAVE_JS, HandedOut
from dflash_app.ui.shell import Page

from .charts import (
    chart_concurrency,
    chart_first_token,
    chart_lengths,
    chart_positions,
    chart_speedups,
    chart_token_times,
)
from .public import without_places
from .render import to_csv, to_markdown
from .report import Report, build_report
from .results import BenchmarkResults, results, to_json
from .shown import render_report
from .words import say, texts

Update = dict[Any, Any]
QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": 8,
}
Asked = tuple[int, float]
"""Number of a benchmark, and when it was asked for: one may be opened again."""
CHARTS = ("speedups", "concurrency", "lengths", "positions", "first-token", "token-times")


def ask_for(number: int) -> Asked:
    """What `Opened.asked` becomes to show a benchmark."""
    return number, time.monotonic()


@dataclass(frozen=True, slots=True)
class Shown:
    """What is known of the benchmark that is shown."""

    results: BenchmarkResults
    report: Report


@dataclass(frozen=True, slots=True)
class Opened:
    """The widgets.

    Attributes:
        asked: the benchmark that is to be shown, from `ask_for`; None before one is.
        shown: what was read of it.
        saved: the file that the browser is to save; invisible.
    """

    page: Page
    asked: gr.State
    shown: gr.State
    report: gr.HTML
    command: gr.HTML
    acts: gr.Row
    charts: tuple[gr.Plot, ...]
    saved: gr.DownloadButton
    files: HandedOut

    @property
    def filled(self) -> list[Any]:
        """What `on_open` gives values to."""
        return [self.shown, self.report, self.command, self.acts]

    def on_open(self, asked: Asked | None, request: gr.Request) -> Update:
        """Read a benchmark and show everything but its charts."""
        if asked is None:
            return self._nothing("")
        number, _ = asked
        workspace = self.page.workspace
        try:
            workspace.store.benchmarks.get(number, self.page.owner(request))  # others' stay hidden
            found = results(workspace.store, number)
            if self.page.public:
                found = without_places(found)
            report = build_report(found, workspace.pairs())
        except DFlashAppError as error:
            return self._nothing(render_notice(self.page.told(error), "error"))
        return {
            self.shown: Shown(found, report),
            self.report: render_report(report),
            self.command: render_command(report.command),
            self.acts: gr.Row(visible=True),
        }

    def on_charts(self, shown: Shown | None) -> list[Any]:
        """Draw it; without a benchmark the charts are hidden."""
        if shown is None:
            return [gr.Plot(visible=False)] * len(CHARTS)
        results, report = shown.results, shown.report
        figures = (
            chart_speedups(report),
            chart_concurrency(report),
            chart_lengths(results),
            chart_positions(results),
            chart_first_token(results),
            chart_token_times(results),
        )
        useful = [True] * len(CHARTS)
        useful[CHARTS.index("concurrency")] = report.plan.concurrency != (1,)
        return [
            gr.Plot(figure, visible=True) if use else gr.Plot(visible=False)
            for figure, use in zip(figures, useful, strict=True)
        ]

    def on_json(self, shown: Shown | None) -> str | None:
        """Every prompt, as `--compare` reads it."""
        return self._write(shown, "json", lambda each: to_json(each.results))

    def on_csv(self, shown: Shown | None) -> str | None:
        """The lines of the report."""
        return self._write(shown, "csv", lambda each: to_csv(each.report))

    def on_markdown(self, shown: Shown | None) -> str | None:
        """The report to be read."""
        return self._write(shown, "md", lambda each: to_markdown(each.report))

    def _write(self, shown: Shown | None, kind: str, make: Callable[[Shown], str]) -> str | None:
        if shown is None:
            return None
        path = self.files.new_path(f"benchmark-{shown.report.benchmark_id}.{kind}")
        path.write_text(make(shown), encoding="utf-8")
        return str(path)

    def _nothing(self, notice: str) -> Update:
        return {
            self.shown: None,
            self.report: notice,
            self.command: "",
            self.acts: gr.Row(visible=False),
        }


def build_opened(page: Page) -> tuple[Opened, tuple[gr.Button, ...]]:
    """Make the widgets, and the buttons of its files: JSON, CSV, Markdown."""
    report = gr.HTML(elem_id="bench-report")
    command = gr.HTML(elem_id="bench-command", js_on_load=COPY_JS)
    with gr.Row(visible=False, elem_id="bench-files-row", elem_classes="bench-acts") as acts:
        buttons = tuple(
            gr.Button(texts.label(f"file_{kind}"), size="sm", scale=0, elem_id=f"bench-{kind}")
            for kind in ("json", "csv", "md")
        )
    with gr.Row(elem_id="bench-charts"):
        charts = tuple(
            gr.Plot(
                show_label=False, label=name, min_width=320, visible=False,
                elem_id=f"chart-bench-{name}",
            )
            for name in CHARTS
        )  # fmt: skip
    saved = gr.DownloadButton(visible="hidden", elem_id="bench-file")
    files = HandedOut(saved.GRADIO_CACHE, "benchmarks-")
    asked, shown = gr.State(None), gr.State(None)
    return Opened(page, asked, shown, report, command, acts, charts, saved, files), buttons


def connect_opened(opened: Opened, buttons: tuple[gr.Button, ...]) -> None:
    """What is asked for is shown: first the figures, then the charts, which take longer."""
    read = opened.asked.change(opened.on_open, opened.asked, opened.filled, **QUIET)
    read.then(opened.on_charts, opened.shown, list(opened.charts), **QUIET)
    handlers = (opened.on_json, opened.on_csv, opened.on_markdown)
    for button, handler in zip(buttons, handlers, strict=True):
        event = button.click(handler, opened.shown, opened.saved, **QUIET)
        event.then(None, opened.saved, opened.saved, js=SAVE_JS, **QUIET)


def render_command(command: str) -> str:
    """A command with a button that copies it; `COPY_JS` listens."""
    return (
        f'<div class="race-command"><button type="button" data-copy="code">{say("copy_command")}'
        f'</button><code tabindex="0">{escape_html(command)}</code></div>'
    )
