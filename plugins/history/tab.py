"""The History tab: its widgets and what they are connected to."""

from typing import Any

import gradio as gr

from dflash_app.store.overview import ALL_RUNS
from dflash_app.ui.handed_out import HandedOut
from dflash_app.ui.shell import Page

from .deletion import build_deletion, connect_deletion
from .files import Files, build_database_box, connect_files
from .filters import build_filters
from .table import ACT_JS, Looking
from .view import CHARTS, HistoryTab
from .words import texts

_QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": 8,
}


def build(page: Page) -> None:
    """Build the tab."""
    filters = build_filters()
    notice = gr.HTML(elem_id="history-notice")
    table = gr.HTML(elem_id="history-table", js_on_load=ACT_JS)
    with gr.Row(elem_id="history-acts"):
        told = gr.HTML(elem_id="history-told")
        compare = _button("compare", "history-compare")
        clear = _button("clear", "history-clear")
        csv, json = _button("csv", "history-export"), _button("json", "history-export-json")
        refresh = _button("refresh", "history-refresh")
        delete = _deleting("delete_run", "history-delete")
        deletes = (
            _deleting("delete_chosen", "history-delete-chosen"),
            _deleting("delete_matching", "history-delete-matching"),
        )
    question_place = gr.Column(elem_classes="slim")
    file_told = gr.HTML(elem_id="history-file-told")
    comparison = gr.HTML(elem_id="history-comparison")
    detail = gr.HTML(elem_id="history-detail")
    charts_notice = gr.HTML(elem_id="history-charts-notice")
    charts = _build_charts()
    published = gr.HTML(elem_id="history-published")
    box, database, snapshot = build_database_box()
    tab = HistoryTab(
        page, filters, gr.State(Looking()), gr.State(ALL_RUNS), notice, table, told, delete,
        comparison, detail, charts, charts_notice, published, (*deletes, box),
    )  # fmt: skip
    with question_place:
        deletion = build_deletion(tab, deletes)
    file = gr.DownloadButton(visible="hidden", elem_id="history-file")
    exports = HandedOut(file.GRADIO_CACHE, "runs-")
    files = Files(tab, exports, csv, json, file, file_told, database, snapshot)
    _connect(tab, files, refresh, compare, clear)
    _then_draw(tab, connect_deletion(deletion, _QUIET))
    connect_files(files, _QUIET)


def _button(key: str, elem_id: str) -> gr.Button:
    return gr.Button(texts.label(key), size="sm", min_width=90, scale=0, elem_id=elem_id)


def _deleting(key: str, elem_id: str) -> gr.Button:
    """Hidden until it is known who asks."""
    return gr.Button(
        texts.label(key), variant="stop", size="sm", min_width=90, scale=0, visible=False,
        elem_id=elem_id,
    )  # fmt: skip


def _build_charts() -> tuple[gr.Plot, ...]:
    with gr.Row(elem_id="history-charts"):
        return tuple(
            gr.Plot(show_label=False, label=name, min_width=320, elem_id=f"chart-{name}")
            for name in CHARTS
        )


def _connect(
    tab: HistoryTab, files: Files, refresh: gr.Button, compare: gr.Button, clear: gr.Button
) -> None:
    """Show the table first, then draw: charts take longer, and the first one loads plotly."""
    asked, at_table = [tab.looking, *tab.filters.inputs], [tab.looking, tab.matching]
    text, days = tab.filters.text, [tab.filters.since, tab.filters.until]
    fixed = [*tab.filters.growing, tab.filters.mode, tab.filters.end]
    shown = gr.on(
        [tab.page.tab.select, refresh.click, *(box.input for box in (text, *fixed)),
         *(box.submit for box in (text, *days)), *(box.blur for box in days)],
        # What is typed while the table is still filled must not be dropped.
        tab.on_show, asked, tab.shown, trigger_mode="always_last", **_QUIET,
    )  # fmt: skip
    # Drawing takes longer than typing goes on: only the last table needs its charts.
    _then_draw(tab, shown, trigger_mode="always_last")
    tab.page.tab.select(files.on_where, None, files.database, **_QUIET)
    # Clicks come faster than answers: none may be dropped, nor overtake another.
    in_turn = _QUIET | {"trigger_mode": "multiple", "concurrency_limit": 1}
    tab.table.select(tab.on_act, at_table, tab.shown, **in_turn)
    compare.click(tab.on_compare, tab.looking, tab.comparison, **_QUIET)
    clear.click(tab.on_clear, at_table, tab.shown, **_QUIET)


def _then_draw(tab: HistoryTab, event: Any, **how: Any) -> None:
    event.then(tab.on_charts, tab.matching, tab.drawn, **how, **_QUIET)
