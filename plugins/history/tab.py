"""The History tab."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.store.records import RunFilter, RunRecord
from dflash_app.ui.charts import (
    chart_acceptance_by_position,
    chart_acceptance_histogram,
    chart_speed,
    chart_speedup,
)
from dflash_app.ui.components import render_notice
from dflash_app.ui.shell import Page

from .table import HEADERS, TYPES, WIDTHS, render_detail, render_no_detail, table_rows, to_csv

MAX_ROWS = 500
CHARTS = {
    "speed": chart_speed,
    "speedup": chart_speedup,
    "histogram": chart_acceptance_histogram,
    "positions": chart_acceptance_by_position,
}
ALL = "all"
MODES = [("all", ALL), ("DFlash", "dflash"), ("AR", "ar")]
ENDS = [ALL, "stop", "length", "cancelled", "failed", "interrupted", "running"]

_SAVE_CSV = """(csv) => {
    if (csv) {
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([csv], {type: "text/csv"}));
        link.download = "runs.csv";
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    }
    return "";
}"""

Update = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class HistoryTab:
    """The tab's widgets and the page they are on."""

    page: Page
    pair: gr.Dropdown
    mode: gr.Dropdown
    end: gr.Dropdown
    text: gr.Textbox
    refresh: gr.Button
    export: gr.Button
    csv: gr.Textbox
    table: gr.Dataframe
    notice: gr.HTML
    detail: gr.HTML
    chosen: gr.State
    delete: gr.Button
    confirm: gr.Button
    keep: gr.Button
    charts: tuple[gr.Plot, ...]

    @property
    def filters(self) -> list[Any]:
        return [self.pair, self.mode, self.end, self.text]

    @property
    def shown(self) -> list[Any]:
        return [self.pair, self.table, self.notice, *self.charts]

    @property
    def deletion(self) -> list[Any]:
        return [self.delete, self.confirm, self.keep]

    def on_show(self, *values: Any) -> Update:
        """Fill table and charts with the runs that the filters name."""
        try:
            runs = self.list_runs(*values)
        except DFlashAppError as error:
            return {self.notice: render_notice(str(error), "error")}
        update: Update = {
            self.table: table_rows(runs),
            self.notice: _say_count(runs),
            **{plot: draw(runs) for plot, draw in zip(self.charts, CHARTS.values(), strict=True)},
        }
        if values[0] == ALL:
            names = sorted({run.start.pair for run in runs})
            update[self.pair] = gr.Dropdown([ALL, *names], value=ALL)
        return update

    def list_runs(self, pair: str, mode: str, end: str, text: str) -> list[RunRecord]:
        """The runs that the filters name, newest first."""
        filters = RunFilter(
            pair=_one(pair), mode=_one(mode), finish_reason=_one(end), text=text.strip() or None
        )
        return self.page.workspace.store.list_runs(filters, limit=MAX_ROWS)

    def on_choose(self, event: gr.SelectData) -> Update:
        """Show the run of the row that was clicked."""
        try:
            run = self.page.workspace.store.get_run(int(event.row_value[0]))
        except DFlashAppError as error:
            return self.no_choice(str(error))
        if run is None:
            return self.no_choice("This run is no longer in the log: refresh the table.")
        return {self.detail: render_detail(run), self.chosen: run.id, **self.on_offer()}

    def no_choice(self, text: str = "") -> Update:
        """No run is chosen; `text` says why."""
        detail = render_no_detail(text) if text else render_no_detail()
        hidden = dict.fromkeys(self.deletion, gr.Button(visible=False))
        return {self.detail: detail, self.chosen: None, **hidden}

    def on_offer(self) -> Update:
        """Offer to delete the chosen run."""
        return _show_buttons({self.delete: True, self.confirm: False, self.keep: False})

    def on_ask(self) -> Update:
        """Ask before deleting."""
        return _show_buttons({self.delete: False, self.confirm: True, self.keep: True})

    def on_delete(self, run_id: int, *values: Any) -> Update:
        """Delete the chosen run for good."""
        try:
            deleted = self.page.workspace.store.delete_runs([run_id])
        except DFlashAppError as error:
            return {self.notice: render_notice(str(error), "error"), **self.on_offer()}
        if not deleted:
            told = f"Run {run_id} still goes on or is gone: stop it first, then refresh."
            return {self.notice: render_notice(told, "warning"), **self.on_offer()}
        told = render_notice(f"Run {run_id} is deleted.", "success")
        return {**self.on_show(*values), self.notice: told, **self.no_choice()}

    def on_export(self, *values: Any) -> Update:
        """Hand the runs that the filters name to the browser, which makes the file."""
        try:
            return {self.csv: to_csv(self.list_runs(*values))}
        except DFlashAppError as error:
            return {self.notice: render_notice(str(error), "error")}


def build(page: Page) -> None:
    """Build the tab."""
    with gr.Row(elem_classes="model-bar"):
        pair = gr.Dropdown([ALL], value=ALL, label="Pair", min_width=150, elem_id="history-pair")
        mode = gr.Dropdown(MODES, value=ALL, label="Mode", min_width=100, elem_id="history-mode")
        end = gr.Dropdown(ENDS, value=ALL, label="End", min_width=110, elem_id="history-end")
        text = gr.Textbox(
            label="Prompt or output contains", max_lines=1, min_width=180, scale=2,
            elem_id="history-text",
        )  # fmt: skip
        refresh = gr.Button("↻ Refresh", min_width=100, elem_id="history-refresh")
        export = gr.Button("⇩ CSV", min_width=90, elem_id="history-export")
    csv = gr.Textbox(visible="hidden", elem_id="history-csv")
    notice = gr.HTML(elem_id="history-notice")
    table = gr.Dataframe(
        headers=HEADERS, datatype=TYPES, interactive=False, max_height=330, label="Runs",
        show_label=False, column_widths=WIDTHS, elem_id="history-table", buttons=[],
    )  # fmt: skip
    detail = gr.HTML(render_no_detail(), elem_id="history-detail")
    chosen = gr.State(None)
    with gr.Row():
        delete = gr.Button("Delete this run", size="sm", visible=False, elem_id="history-delete")
        confirm = gr.Button(
            "Delete for good", variant="stop", size="sm", visible=False, elem_id="history-confirm"
        )
        keep = gr.Button("Keep it", size="sm", visible=False, elem_id="history-keep")
    charts = _build_charts()
    _connect(
        HistoryTab(page, pair, mode, end, text, refresh, export, csv, table, notice, detail, chosen,
                   delete, confirm, keep, charts)
    )  # fmt: skip


def _build_charts() -> tuple[gr.Plot, ...]:
    names = list(CHARTS)
    plots = []
    for first in (0, 2):
        with gr.Row():
            plots += [
                gr.Plot(show_label=False, label=name, min_width=320, elem_id=f"chart-{name}")
                for name in names[first : first + 2]
            ]
    return tuple(plots)


def _connect(tab: HistoryTab) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    triggers = [
        tab.page.tab.select, tab.refresh.click, tab.text.submit,
        tab.pair.input, tab.mode.input, tab.end.input,
    ]  # fmt: skip
    gr.on(triggers, tab.on_show, inputs=tab.filters, outputs=tab.shown, **quiet)
    tab.table.select(tab.on_choose, outputs=[tab.detail, tab.chosen, *tab.deletion], **quiet)
    tab.delete.click(tab.on_ask, outputs=tab.deletion, **quiet)
    tab.keep.click(tab.on_offer, outputs=tab.deletion, **quiet)
    tab.confirm.click(
        tab.on_delete,
        inputs=[tab.chosen, *tab.filters],
        outputs=[*tab.shown, tab.detail, tab.chosen, *tab.deletion],
        **quiet,
    )
    written = tab.export.click(
        tab.on_export, inputs=tab.filters, outputs=[tab.csv, tab.notice], **quiet
    )
    written.then(None, inputs=tab.csv, outputs=tab.csv, js=_SAVE_CSV, **quiet)


def _say_count(runs: list[RunRecord]) -> str:
    if not runs:
        return render_notice("No run matches. Every message and every race is recorded here.")
    if len(runs) == MAX_ROWS:
        return render_notice(f"The newest {MAX_ROWS} runs are shown.")
    return ""


def _show_buttons(visible: dict[gr.Button, bool]) -> Update:
    return {button: gr.Button(visible=shown) for button, shown in visible.items()}


def _one(value: str | None) -> str | None:
    return None if value in (None, ALL) else value
