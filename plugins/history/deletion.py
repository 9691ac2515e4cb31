"""Runs go for good only after a question that says how many."""

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError, RequestError
from dflash_app.store.records import RunFilter
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import escape_html, format_count

from .filters import say_filters
from .table import Looking
from .view import HistoryTab, Update
from .words import texts


@dataclass(frozen=True, slots=True)
class RunDeletion:
    """The buttons that delete, the question and its answers.

    Attributes:
        asked: numbers of the runs that the question is about, so that the answer deletes no other
            that began or ended meanwhile; None where none is asked.
    """

    tab: HistoryTab
    chosen: gr.Button
    matching: gr.Button
    question: gr.HTML
    confirm: gr.Button
    keep: gr.Button
    asked: gr.State

    @property
    def asking(self) -> list[Any]:
        """What a question changes."""
        return [self.question, self.confirm, self.keep, self.asked]

    def on_ask_run(self, looking: Looking, request: gr.Request) -> Update:
        """Ask before the run that is shown is deleted."""
        return self._ask_runs((looking.run_id,) if looking.run_id is not None else (), request)

    def on_ask_chosen(self, looking: Looking, request: gr.Request) -> Update:
        """Ask before the chosen runs are deleted."""
        return self._ask_runs(looking.chosen, request)

    def on_ask_matching(self, matching: RunFilter, request: gr.Request, *values: Any) -> Update:
        """Ask before all runs of the table, on whichever page, are deleted.

        Args:
            matching: of the table.
            request: who asks.
            values: of the boxes, which must say the same.
        """
        if not self.tab.may_manage(request):
            return self._say("not_here", "warning")
        try:
            filters = self.tab.read_shown(matching, values, request)
            run_ids = self.tab.page.workspace.store.overview.ended(filters)
        except RequestError as error:
            return {**self.no_question(), self.question: render_notice(str(error), "warning")}
        except DFlashAppError as error:
            return {**self.no_question(), self.question: render_notice(str(error), "error")}
        if not run_ids:
            return self._say("no_match", "warning")
        key = "ask_matching" if len(run_ids) > 1 else "ask_matching_one"
        told = {"num_runs": format_count(len(run_ids)), "filters": say_filters(filters)}
        return self._put(texts.say(key, **told), run_ids)

    def on_confirm(
        self,
        asked: tuple[int, ...] | None,
        looking: Looking,
        matching: RunFilter,
        request: gr.Request,
    ) -> Update:
        """Delete what was asked about, and show what is left."""
        if asked is None or not self.tab.may_manage(request):
            return self._say("not_here", "warning")
        try:
            deleted = self.tab.page.workspace.store.delete_runs(asked)
        except DFlashAppError as error:
            return {**self.no_question(), self.question: render_notice(str(error), "error")}
        if not deleted:
            return self._say("nothing_deleted", "warning")
        looking = replace(looking, chosen=(), run_id=None)
        filters = self.tab.own(matching, request)
        left = {**self.tab.show(looking, filters, request), **self.tab.no_run()}
        told = render_notice(self._say_deleted(asked, deleted), "success")
        shown = {**left, **self.no_question(), self.tab.comparison: ""}
        return {**shown, self.question: told}

    def no_question(self) -> Update:
        """Nothing is asked: also the answer "keep"."""
        hidden = gr.Button(visible=False)
        return {self.question: "", self.confirm: hidden, self.keep: hidden, self.asked: None}

    def on_keep(self) -> Update:
        """Delete nothing."""
        return self.no_question()

    def _ask_runs(self, run_ids: tuple[int, ...], request: gr.Request) -> Update:
        if not self.tab.may_manage(request):
            return self._say("not_here", "warning")
        if not run_ids:
            return self._say("choose_some", "warning")
        told = texts.say("ask_many", num_runs=format_count(len(run_ids)))
        if len(run_ids) == 1:
            told = texts.say("ask_one", run_id=run_ids[0])
        return self._put(told, run_ids)

    def _put(self, question: str, asked: tuple[int, ...]) -> Update:
        shown = gr.Button(visible=True)
        drawn = f'<div class="hub-question" role="alert">{escape_html(question)}</div>'
        return {self.question: drawn, self.confirm: shown, self.keep: shown, self.asked: asked}

    def _say(self, key: str, level: Any) -> Update:
        return {**self.no_question(), self.question: render_notice(texts.say(key), level)}

    @staticmethod
    def _say_deleted(asked: tuple[int, ...], deleted: int) -> str:
        if len(asked) == 1:
            return texts.say("deleted_one", run_id=asked[0])
        told = texts.say("deleted_many", num_runs=format_count(deleted))
        spared = len(asked) - deleted
        return f"{told} {texts.say('spared', num_runs=spared)}" if spared > 0 else told


def build_deletion(tab: HistoryTab, buttons: tuple[gr.Button, gr.Button]) -> RunDeletion:
    """Build the question; `buttons` delete the chosen runs and all that match."""
    question = gr.HTML(elem_id="history-question")
    with gr.Row():
        # First what deletes nothing: a second click of a double click may land here.
        keep = gr.Button(texts.label("keep"), size="sm", visible=False, elem_id="history-keep")
        confirm = gr.Button(
            texts.label("delete_for_good"), variant="stop", size="sm", visible=False,
            elem_id="history-confirm",
        )  # fmt: skip
    return RunDeletion(tab, *buttons, question, confirm, keep, gr.State(None))


def connect_deletion(deletion: RunDeletion, quiet: dict[str, Any]) -> Any:
    """Connect the buttons; returns the event after which the charts are to be drawn again."""
    tab = deletion.tab
    asking = deletion.asking
    tab.delete.click(deletion.on_ask_run, tab.looking, asking, **quiet)
    deletion.chosen.click(deletion.on_ask_chosen, tab.looking, asking, **quiet)
    named = [tab.matching, *tab.filters.inputs]
    deletion.matching.click(deletion.on_ask_matching, named, asking, **quiet)
    deletion.keep.click(deletion.on_keep, None, asking, **quiet)
    asked = [deletion.asked, tab.looking, tab.matching]
    return deletion.confirm.click(deletion.on_confirm, asked, [*tab.shown, *asking], **quiet)
