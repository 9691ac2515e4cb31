"""The Servers tab: pairs that decode on servers, how those are, and a form that adds one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError, PairNotReady
from dflash_app.registry.pair import Pair
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import escape_html
from dflash_app.ui.model_bar import offer_pair, pair_choices, refresh_model_bar
from dflash_app.ui.shell import Page

from .adding import remove_server
from .asking import Standings, places_of
from .form import build_form
from .render import ACT_JS, render_servers
from .words import texts

Update = dict[Any, Any]
QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": 8,
}


@dataclass(frozen=True, slots=True)
class ServersTab:
    """The list's widgets and the page they are on.

    Attributes:
        standings: how the servers are; shared by all browser tabs.
        notice: what became of a click.
        asked: name of the pair that a question is about, None where none is asked.
    """

    page: Page
    standings: Standings
    cards: gr.HTML
    notice: gr.HTML
    question: gr.HTML
    confirm: gr.Button
    keep: gr.Button
    asked: gr.State

    @property
    def asking(self) -> list[Any]:
        """What a question changes."""
        return [self.question, self.confirm, self.keep, self.asked]

    @property
    def choosing(self) -> list[Any]:
        """What choosing a pair changes in the model bar."""
        return [self.page.bar.pair, *self.page.bar.follows_pair]

    def on_show(self) -> Iterator[str]:
        """Draw what is known, ask all servers at once, and draw each answer."""
        pairs = self._pairs()
        yield self._draw(pairs)
        for _ in self.standings.ask([place for pair in pairs for place in places_of(pair)]):
            yield self._draw(pairs)

    def on_again(self) -> Iterator[str]:
        """Ask anew whoever has just answered, too; not for strangers, who may click often."""
        if not self.page.public:
            self.standings.forget()
        yield from self.on_show()

    def on_act(self, event: gr.EventData) -> Update:
        """Do what a card's button says."""
        asked = event._data.get("value") or {}
        acts = {"use": self._use, "remove": self._ask_removal}
        act = acts.get(asked.get("act"))
        pair = next((each for each in self._pairs() if each.name == asked.get("pair")), None)
        return {self.notice: gr.skip()} if act is None or pair is None else act(pair)

    def on_confirm(self, name: str | None, *values: Any) -> Update:
        """Take the pair that was asked about out of the registry."""
        workspace = self.page.workspace
        if name is None or not self.page.local():
            return self._no_question() | {self.notice: self._refusal()}
        try:
            self._remove(name)
        except DFlashAppError as error:
            return self._no_question() | {self.notice: render_notice(str(error), "error")}
        return {
            **self._no_question(),
            self.notice: render_notice(texts.say("removed", name=name), "success"),
            self.cards: self._draw(self._pairs()),
            **refresh_model_bar(self.page.bar, workspace, values),
        }

    def on_keep(self) -> Update:
        """Remove nothing."""
        return self._no_question()

    def _use(self, pair: Pair) -> Update:
        workspace, bar = self.page.workspace, self.page.bar
        said = texts.say("used", name=pair.title)
        return {
            **self._no_question(),
            self.notice: render_notice(said, "success"),
            bar.pair: gr.Dropdown(pair_choices(workspace), value=pair.name),
            **dict(zip(bar.follows_pair, offer_pair(workspace, pair.name), strict=True)),
        }

    def _ask_removal(self, pair: Pair) -> Update:
        if not self.page.local():
            return self._no_question() | {self.notice: self._refusal()}
        question = escape_html(texts.say("ask_remove", name=pair.name))
        shown = gr.Button(visible=True)
        return {
            self.notice: "",
            self.question: f'<div class="hub-question" role="alert">{question}</div>',
            self.confirm: shown,
            self.keep: shown,
            self.asked: pair.name,
        }

    def _no_question(self) -> Update:
        hidden = gr.Button(visible=False)
        return {self.question: "", self.confirm: hidden, self.keep: hidden, self.asked: None}

    def _remove(self, name: str) -> None:
        """Remove a pair; one that is held but decodes nothing is let go of first."""
        workspace = self.page.workspace
        try:
            remove_server(workspace, name)
        except PairNotReady:
            with self.page.runs.turn.taken_now() as taken:
                if not taken:
                    raise
                workspace.unload()
                remove_server(workspace, name)

    def _pairs(self) -> list[Pair]:
        return [pair for pair in self.page.workspace.pairs() if pair.remote]

    def _draw(self, pairs: list[Pair]) -> str:
        return render_servers(pairs, self.standings.of, manages=self.page.local())

    def _refusal(self) -> str:
        return render_notice(texts.say("not_local"), "warning")


def build(page: Page) -> None:
    """Build the tab; on a page for strangers it is the list alone."""
    gr.HTML(f'<p class="servers-intro">{texts.label("intro")}</p>')
    cards = gr.HTML(elem_id="servers-list", js_on_load=ACT_JS)
    small: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 130}
    again = gr.Button(texts.label("check_again"), elem_id="servers-again", **small)
    notice = gr.HTML(elem_id="servers-notice")
    question = gr.HTML(elem_id="servers-question")
    with gr.Row(elem_id="servers-answers"):
        confirm = gr.Button(
            texts.label("remove_confirm"), variant="stop", visible=False,
            elem_id="servers-confirm", **small,
        )  # fmt: skip
        keep = gr.Button(texts.label("keep"), visible=False, elem_id="servers-keep", **small)
    tab = ServersTab(page, Standings(), cards, notice, question, confirm, keep, gr.State(None))
    page.tab.select(tab.on_show, None, cards, **QUIET)
    again.click(tab.on_again, None, cards, **QUIET)
    cards.select(tab.on_act, None, [notice, *tab.asking, *tab.choosing], **QUIET)
    keep.click(tab.on_keep, None, tab.asking, **QUIET)
    removed = [*tab.asking, notice, cards, *tab.choosing]
    confirm.click(tab.on_confirm, [tab.asked, *page.bar.inputs], removed, **QUIET)
    if not page.public:
        added = build_form(page)
        added.then(tab.on_show, None, cards, **QUIET)
