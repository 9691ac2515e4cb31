"""Downloads of runs and of the whole database, and where the database is."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.store.records import RunFilter, RunRecord
from dflash_app.store.snapshot import write_snapshot
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import escape_html, format_bytes, format_count
from dflash_app.ui.handed_out import COPY_JS, SAVE_JS, HandedOut

from .exports import Kind, write_runs
from .filters import say_filters
from .table import Looking
from .view import HistoryTab, Update
from .words import texts


@dataclass(frozen=True, slots=True)
class Files:
    """The buttons that hand out files, and the box about the database.

    Attributes:
        file: what the browser is to save; invisible.
        told: how a file comes along.
    """

    tab: HistoryTab
    exports: HandedOut
    csv: gr.Button
    json: gr.Button
    file: gr.DownloadButton
    told: gr.HTML
    database: gr.HTML
    snapshot: gr.Button

    def on_export_csv(
        self, looking: Looking, matching: RunFilter, request: gr.Request, *values: Any
    ) -> Iterator[Update]:
        """Write the chosen runs, or all of the table, as CSV; `values` are those of the boxes."""
        yield from self._export("csv", looking, matching, values, request)

    def on_export_json(
        self, looking: Looking, matching: RunFilter, request: gr.Request, *values: Any
    ) -> Iterator[Update]:
        """Write the same as JSON."""
        yield from self._export("json", looking, matching, values, request)

    def on_snapshot(self, request: gr.Request) -> Iterator[Update]:
        """Copy the whole database into one file."""
        path = self.tab.page.workspace.store.path
        if path is None or not self.tab.may_manage(request):
            yield {self.told: render_notice(texts.say("not_here"), "warning"), self.file: None}
            return
        yield {self.told: render_notice(texts.say("snapshot_begun")), self.file: None}
        target = self.exports.new_path(f"runs-{datetime.now().astimezone():%Y%m%d-%H%M%S}.db")
        try:
            num_bytes = write_snapshot(path, target)
        except DFlashAppError as error:
            yield {self.told: render_notice(self.tab.page.told(error), "error"), self.file: None}
            return
        told = texts.say("snapshot_done", name=target.name, size=format_bytes(num_bytes))
        yield {self.told: render_notice(told, "success"), self.file: str(target)}

    def on_where(self, request: gr.Request) -> Update:
        """Tell people of this machine where the database is."""
        if not self.tab.may_manage(request):
            return {self.database: ""}
        workspace = self.tab.page.workspace
        path = workspace.store.path
        if path is None:
            return {self.database: render_notice(str(workspace.store_problem or ""), "warning")}
        return {self.database: render_database(path)}

    def _export(
        self,
        kind: Kind,
        looking: Looking,
        matching: RunFilter,
        values: Sequence[Any],
        request: gr.Request,
    ) -> Iterator[Update]:
        yield {self.told: "", self.file: None}
        store, owner = self.tab.page.workspace.store, self.tab.page.owner(request)
        path = self.exports.new_path(f"runs.{kind}")
        try:
            if looking.chosen:
                runs, total = self._chosen(looking.chosen, owner), len(looking.chosen)
                named = texts.say("only_ticked")
            else:
                filters = self.tab.read_shown(matching, values, request)
                named = say_filters(filters)
                runs, total = store.overview.each(filters), store.count_runs(filters)
            for number in write_runs(kind, runs, path):
                going = texts.say(
                    "export_goes_on", num_runs=format_count(number), total=format_count(total)
                )
                yield {self.told: render_notice(going)}
        except OSError as error:
            failed = texts.say("export_failed", reason=error.strerror)
            yield {self.told: render_notice(failed, "error"), self.file: None}
            return
        except DFlashAppError as error:
            yield {self.told: render_notice(self.tab.page.told(error), "error"), self.file: None}
            return
        key = "export_done_one" if total == 1 else "export_done"
        done = texts.say(key, num_runs=format_count(total), name=path.name, filters=named)
        yield {self.told: render_notice(done, "success"), self.file: str(path)}

    def _chosen(self, run_ids: tuple[int, ...], owner: str | None) -> Iterator[RunRecord]:
        for run_id in sorted(run_ids, reverse=True):
            run = self.tab.page.workspace.store.get_run(run_id, owner)
            if run is not None:
                yield run


def render_database(path: Path) -> str:
    """Where the database is, how Datasette opens it, and how it is copied safely."""
    lines = "".join(
        f"<p>{escape_html(texts.say(key))}</p><div class='copied'><code id='{elem_id}' "
        f"tabindex='0'>{escape_html(text)}</code><button type='button' data-copy='#{elem_id}'>"
        f"{escape_html(texts.say('copy'))}</button></div>"
        for key, elem_id, text in (
            ("database_path", "history-path", str(path)),
            ("database_command", "history-datasette", f"datasette {shlex.quote(str(path))}"),
        )
    )
    advice = escape_html(texts.say("database_advice"))
    return f"<div class='run-detail'>{lines}<p>{advice}</p></div>"


def build_database_box() -> tuple[gr.Accordion, gr.HTML, gr.Button]:
    """Build the box: hidden until it is known who asks."""
    with gr.Accordion(
        texts.label("database"), open=False, visible=False, elem_id="history-database-box"
    ) as box:
        where = gr.HTML(elem_id="history-database", js_on_load=COPY_JS)
        snapshot = gr.Button(texts.label("snapshot"), size="sm", elem_id="history-snapshot")
    return box, where, snapshot


def connect_files(files: Files, quiet: dict[str, Any]) -> None:
    """Connect the buttons; what was written is saved by the browser at once."""
    tab = files.tab
    asked = [tab.looking, tab.matching, *tab.filters.inputs]
    outputs = [files.told, files.file]
    for event in (
        files.csv.click(files.on_export_csv, asked, outputs, **quiet),
        files.json.click(files.on_export_json, asked, outputs, **quiet),
        files.snapshot.click(files.on_snapshot, None, outputs, **quiet),
    ):
        event.then(None, files.file, files.file, js=SAVE_JS, **quiet)
