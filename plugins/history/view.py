"""What the History tab does: list, sort, turn pages, open a run, choose, compare, draw."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError, RequestError
from dflash_app.store.fingerprint import accelerators, hardware_fingerprint
from dflash_app.store.overview import ORDERS
from dflash_app.store.records import RunFilter, RunRecord
from dflash_app.ui.charts import (
    chart_acceptance_by_position,
    chart_acceptance_histogram,
    chart_context,
    chart_speed,
)
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import format_count
from dflash_app.ui.shell import Page

from .charts import chart_published, chart_speedups, chart_trend, say_left_out
from .comparison import render_comparison
from .detail import render_detail, render_no_detail
from .filters import Filters, read_filters
from .published import build_sheets
from .sheets import render_sheets
from .speedups import find_speedups, of_one_machine
from .table import PAGE_ROWS, Looking, num_pages, render_table, say_chosen
from .words import texts

MAX_CHARTED = 2000
"""Newest runs that the charts look at: reading and drawing them takes about half a second."""

CHARTS = ("speedup", "published", "speed", "trend", "context", "histogram", "positions")

Update = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class HistoryTab:
    """The tab's widgets and the page they are on.

    Attributes:
        looking: what a browser tab looks at, a `Looking`.
        matching: the `RunFilter` of the table that is shown; the boxes may say more by now, see
            `read_shown`.
        charts: in the order of `CHARTS`.
        managing: what only this machine's own people see: buttons that delete, and the database.
    """

    page: Page
    filters: Filters
    looking: gr.State
    matching: gr.State
    notice: gr.HTML
    table: gr.HTML
    told: gr.HTML
    delete: gr.Button
    comparison: gr.HTML
    detail: gr.HTML
    charts: tuple[gr.Plot, ...]
    charts_notice: gr.HTML
    published: gr.HTML
    managing: tuple[Any, ...]

    @property
    def shown(self) -> list[Any]:
        """What `on_show` and what it calls may change."""
        table = [self.looking, self.matching, self.notice, self.table, self.told]
        run = [self.delete, self.comparison, self.detail]
        return [*table, *run, *self.filters.growing, *self.managing]

    @property
    def drawn(self) -> list[Any]:
        """What `on_charts` changes."""
        return [*self.charts, self.charts_notice, self.published]

    def may_manage(self, request: gr.Request) -> bool:
        """Whether who asks may delete and see paths: people of this machine, no visitors."""
        return self.page.local() and self.page.owner(request) is None

    def own(self, matching: RunFilter, request: gr.Request) -> RunFilter:
        """The same of who asks: a table that was never filled has nobody's filter."""
        return replace(matching, owner=self.page.owner(request))

    def read_shown(
        self, matching: RunFilter, values: Sequence[Any], request: gr.Request
    ) -> RunFilter:
        """The filter of the table, where the boxes say the same.

        Whoever exports or deletes "what matches" means both what the table shows and what the
        boxes say: where these differ, nothing is done.

        Raises:
            RequestError: they say something else, or a day that is none.
        """
        filters = self.own(matching, request)
        if read_filters(values, filters.owner) != filters:
            raise RequestError(texts.say("boxes_changed"))
        return filters

    def on_show(self, looking: Looking, request: gr.Request, *values: Any) -> Update:
        """Fill the table from its first page with the runs that the boxes name."""
        try:
            filters = read_filters(values, self.page.owner(request))
        except DFlashAppError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}
        return self.show(looking, filters, request)

    def show(self, looking: Looking, filters: RunFilter, request: gr.Request) -> Update:
        """Fill the table from its first page, and let the boxes offer what occurs."""
        try:
            update = self.draw(replace(looking, page=0), filters)
            choices = self.page.workspace.store.overview.choices(filters.owner)
        except DFlashAppError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}
        manage = self.may_manage(request)
        update |= {widget: type(widget)(visible=manage) for widget in self.managing}
        if looking.run_id is None:
            update |= self.no_run()
        return update | self.filters.offer(choices)

    def draw(self, looking: Looking, filters: RunFilter, *, count: bool = True) -> Update:
        """One page of the table.

        Args:
            looking: at which page, in which order.
            filters: of which runs.
            count: how many there are may have changed.

        Raises:
            StoreError: the log cannot be read.
        """
        store = self.page.workspace.store
        total = store.count_runs(filters) if count else looking.total
        page = min(looking.page, num_pages(total) - 1)
        runs = store.overview.page(
            filters,
            order=looking.order,
            descending=looking.descending,
            limit=PAGE_ROWS,
            offset=page * PAGE_ROWS,
        )
        looking = replace(looking, page=page, total=total)
        return {
            self.looking: looking,
            self.matching: filters,
            self.notice: "" if runs else render_notice(self._why_empty(filters)),
            self.table: render_table(runs, looking, total),
            self.told: say_chosen(looking.chosen),
        }

    def on_act(
        self, looking: Looking, matching: RunFilter, request: gr.Request, event: gr.EventData
    ) -> Update:
        """Follow a click in the table: another order, another page, a run, a box."""
        asked = event._data.get("value") or {}
        try:
            if "open" in asked:
                return self._open(looking, int(asked["open"]), request)
            if "marked" in asked:
                return self._choose(looking, asked)
            filters = self.own(matching, request)
            return self.draw(_turn(looking, asked), filters, count=False)
        except DFlashAppError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}

    def on_compare(self, looking: Looking, request: gr.Request) -> Update:
        """Show the two chosen runs side by side."""
        if len(looking.chosen) != 2:
            return {self.comparison: render_notice(texts.say("choose_two"), "warning")}
        store, owner = self.page.workspace.store, self.page.owner(request)
        try:
            found = [store.get_run(run_id, owner) for run_id in sorted(looking.chosen)]
            first, second = (run for run in found if run is not None)
        except ValueError:
            return {self.comparison: render_notice(texts.say("gone"), "warning")}
        except DFlashAppError as error:
            return {self.comparison: render_notice(self.page.told(error), "error")}
        same = self._target(first.start.pair) == self._target(second.start.pair)
        return {self.comparison: render_comparison(first, second, same_target=same)}

    def on_clear(self, looking: Looking, matching: RunFilter, request: gr.Request) -> Update:
        """Untick every box."""
        filters = self.own(matching, request)
        try:
            cleared = self.draw(replace(looking, chosen=()), filters, count=False)
        except DFlashAppError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}
        return {**cleared, self.comparison: ""}

    def on_charts(self, matching: RunFilter, request: gr.Request) -> Update:
        """Draw the newest of the table's runs."""
        store, filters = self.page.workspace.store, self.own(matching, request)
        try:
            runs = store.overview.page(filters, limit=MAX_CHARTED)
            left = store.count_runs(filters) - len(runs) if len(runs) == MAX_CHARTED else 0
        except DFlashAppError as error:
            return {self.charts_notice: render_notice(self.page.told(error), "error")}
        told = texts.say("newest_charted", num_runs=format_count(MAX_CHARTED)) if left > 0 else ""
        return {**self._draw_charts(runs), self.charts_notice: render_notice(told)}

    def no_run(self, text: str = "") -> Update:
        """No run is shown in full; `text` says why."""
        return {self.detail: render_no_detail(text), self.delete: gr.Button(visible=False)}

    def _draw_charts(self, runs: Sequence[RunRecord]) -> Update:
        same, others = of_one_machine(runs, hardware_fingerprint())
        speedups = find_speedups(same)
        registry = self.page.workspace.registry.pairs
        sheets = build_sheets(registry, same, speedups, accelerators())
        figures = (
            say_left_out(chart_speedups(same, speedups), len(others)),
            chart_published(same, sheets),
            say_left_out(chart_speed(same), len(others)),
            say_left_out(chart_trend(same), len(others)),
            say_left_out(chart_context(same), len(others)),
            chart_acceptance_histogram(runs),
            chart_acceptance_by_position(runs),
        )
        drawn: Update = dict(zip(self.charts, figures, strict=True))
        return {**drawn, self.published: render_sheets(sheets)}

    def _open(self, looking: Looking, run_id: int, request: gr.Request) -> Update:
        looking = replace(looking, run_id=run_id)
        try:
            run = self.page.workspace.store.get_run(run_id, self.page.owner(request))
        except DFlashAppError as error:
            told = self.no_run(self.page.told(error))
            return {**told, self.looking: replace(looking, run_id=None)}
        if run is None:
            return {**self.no_run(texts.say("gone")), self.looking: replace(looking, run_id=None)}
        return {
            self.looking: looking,
            self.detail: render_detail(run),
            self.delete: gr.Button(visible=self.may_manage(request)),
        }

    def _choose(self, looking: Looking, asked: dict[str, Any]) -> Update:
        """Boxes of the page were ticked or unticked; those of other pages stay."""
        shown = {int(each) for each in asked.get("of") or ()}
        kept = tuple(each for each in looking.chosen if each not in shown)
        chosen = (*kept, *(int(each) for each in asked["marked"]))
        return {self.looking: replace(looking, chosen=chosen), self.told: say_chosen(chosen)}

    def _target(self, pair: str) -> str:
        """Whose tokens a pair's are; a pair that no registry knows any more stands for itself."""
        try:
            return self.page.workspace.registry.get(pair).target.source
        except DFlashAppError:
            return pair

    def _why_empty(self, filters: RunFilter) -> str:
        nothing = self.page.workspace.store.count_runs(RunFilter(owner=filters.owner)) == 0
        return texts.say("no_runs" if nothing else "no_match")


def _turn(looking: Looking, asked: dict[str, Any]) -> Looking:
    """Another page, or another order from its first page on; the same one again turns round."""
    if "page" in asked:
        return replace(looking, page=max(0, int(asked["page"])))
    order = str(asked.get("sort"))
    if order not in ORDERS:
        return looking
    descending = not looking.descending if order == looking.order else order not in ("pair", "mode")
    return replace(looking, order=order, descending=descending, page=0)
