"""Which runs may be opened, and what a browser tab has of the one it opened."""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from dflash_app.advisor.diagnose import Diagnosis, gather, judge
from dflash_app.advisor.finding import Finding
from dflash_app.errors import StoreError
from dflash_app.store.records import RunFilter, RunRecord
from dflash_app.ui.charts import mode_name
from dflash_app.ui.format import format_excerpt, format_speed
from dflash_app.ui.shell import Page

from .render import words
from .specimen import Specimen, open_specimen

MAX_LISTED = 200
"""Newest runs that can be chosen."""
MAX_FINDINGS = 8


@dataclass(frozen=True, slots=True)
class Opened:
    """What a browser tab has under its microscope."""

    run: Specimen
    diagnosis: Diagnosis

    def finding(self, index: int) -> Finding | None:
        """The finding in a place; None where fewer are shown."""
        shown = self.diagnosis.findings[:MAX_FINDINGS]
        return shown[index] if 0 <= index < len(shown) else None


def open_run(page: Page, run_id: int, request: gr.Request) -> Opened:
    """Read a run and what can be said of it.

    Raises:
        StoreError: it is not there, not this visitor's, or has no steps.
    """
    workspace = page.workspace
    record = workspace.store.get_run(run_id)
    if record is None or (page.public and record.start.owner != page.owner(request)):
        raise StoreError(words.say("gone", run=run_id))
    events = workspace.store.run_events(run_id)
    if events is None:
        raise StoreError(words.say("not_kept", run=run_id))
    run = open_specimen(workspace, record, events)
    case = gather(workspace.store, workspace.registry, record, run.profile)
    return Opened(run, judge(case))


def list_runs(page: Page, request: gr.Request) -> list[RunRecord]:
    """The newest runs of who asks that have ended.

    Raises:
        StoreError: the log cannot be read.
    """
    filters = RunFilter(owner=page.owner(request))
    runs = page.workspace.store.list_runs(filters, limit=MAX_LISTED)
    return [run for run in runs if run.finish_reason not in (None, "interrupted")]


def choices(runs: Sequence[RunRecord], chosen: RunRecord | None) -> gr.Dropdown:
    """The dropdown's new content; the chosen run may be older than those that are listed."""
    if chosen is None:
        return gr.Dropdown([(_name(run), run.id) for run in runs], value=None)
    listed = runs if chosen.id in [run.id for run in runs] else [chosen, *runs]
    return gr.Dropdown([(_name(run), run.id) for run in listed], value=chosen.id)


def _name(run: RunRecord) -> str:
    start = run.start
    block = "" if start.block_size is None else f" {start.block_size}"
    parts = [
        f"#{run.id}",
        start.pair,
        f"{mode_name(start.mode)}{block}",
        format_speed(run.metrics.decode_tok_s),
        format_excerpt(start.prompt, 60),
    ]
    return " · ".join(parts)
