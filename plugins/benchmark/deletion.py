"""A benchmark goes for good only after a question that names it."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.ui.components import render_notice
from dflash_app.ui.shell import Page

from .opened import Update
from .words import say, texts


@dataclass(frozen=True, slots=True)
class Deletion:
    """The question and its answers.

    Attributes:
        asked: number of the benchmark that the question is about, None where none is asked.
    """

    page: Page
    question: gr.HTML
    confirm: gr.Button
    keep: gr.Button
    asked: gr.State

    @property
    def asking(self) -> list[Any]:
        """What a question changes."""
        return [self.question, self.confirm, self.keep, self.asked]

    def may_delete(self, request: gr.Request) -> bool:
        """Whether who asks may: people of this machine, and a visitor what is their own."""
        return self.page.local() or self.page.owner(request) is not None

    def ask(self, number: int) -> Update:
        """Put the question."""
        shown = gr.Button(visible=True)
        question = say("ask_delete", number=number)
        return {
            self.question: f'<div class="hub-question" role="alert">{question}</div>',
            self.confirm: shown,
            self.keep: shown,
            self.asked: number,
        }

    def on_confirm(self, asked: int | None, request: gr.Request) -> Update:
        """Delete what was asked about."""
        if asked is None or not self.may_delete(request):
            return self._say("not_here", "warning")
        benchmarks = self.page.workspace.store.benchmarks
        try:
            benchmarks.get(asked, self.page.owner(request))
            benchmarks.delete(asked)
        except DFlashAppError as error:
            return {**self.on_keep(), self.question: render_notice(self.page.told(error), "error")}
        return self._say("deleted", "success", number=asked)

    def on_keep(self) -> Update:
        """Delete nothing."""
        hidden = gr.Button(visible=False)
        return {self.question: "", self.confirm: hidden, self.keep: hidden, self.asked: None}

    def _say(self, key: str, level: Any, **values: object) -> Update:
        return {**self.on_keep(), self.question: render_notice(texts.say(key, **values), level)}


def build_deletion(page: Page) -> Deletion:
    """Make the question."""
    question = gr.HTML(elem_id="bench-question")
    with gr.Row(elem_classes="bench-acts"):
        confirm = gr.Button(
            texts.label("delete_for_good"), variant="stop", size="sm", scale=0, visible=False,
            elem_id="bench-confirm",
        )  # fmt: skip
        keep = gr.Button(
            texts.label("keep"), size="sm", scale=0, visible=False, elem_id="bench-keep"
        )
    return Deletion(page, question, confirm, keep, gr.State(None))
