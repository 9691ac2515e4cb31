"""The Chat tab: conversations that are kept, with live figures and the strip of the last reply."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from dflash_app.errors import StoreCorrupt, StoreError
from dflash_app.store.chat_records import Chat
from dflash_app.ui.chat_acts import REMOVE_JS
from dflash_app.ui.chat_bubbles import MAX_SHOWN_CHARS, bubbles_of, turn_at
from dflash_app.ui.chat_conversation import Conversation
from dflash_app.ui.chat_export import SAVE_FILE
from dflash_app.ui.chat_flow import answer
from dflash_app.ui.chat_list import build_chat_list, load
from dflash_app.ui.chat_markdown import LATEX, PAGE_SCRIPT, written
from dflash_app.ui.chat_pair import ask_back, connect_pair_back, last_figures
from dflash_app.ui.chat_reply import PLACE, render_panel
from dflash_app.ui.chat_widgets import ChatWidgets
from dflash_app.ui.components import render_notice
from dflash_app.ui.flow import Update, connect_flow
from dflash_app.ui.format import format_excerpt, well_formed
from dflash_app.ui.language import Texts
from dflash_app.ui.presets import connect_presets, matching_preset
from dflash_app.ui.sampling import build_sampling, connect_heading, restored_settings
from dflash_app.ui.shell import Page, session_of

_texts = Texts.load("chat", Path(__file__).parent.with_name("texts") / "chat.yaml")

_STORAGE = "dflash-studio-chat"
EXAMPLE_PROMPTS = (
    "How many divisors does 196 have?",
    "What is 348 + 267?",
    "Sort 42, 7, 19, 3.",
    "Solve 3x + 5 = 20.",
)
"""Of kinds that the shipped pair was taught, in its language: an empty conversation offers them."""
_SETTLE_S = 1.0
"""How long a page that was loaded anew waits for the reply that its reload has stopped."""


class ChatTab(ChatWidgets):
    """What each event of the tab does."""

    __slots__ = ()

    def on_send(
        self, prompt: str, conversation: Conversation, request: gr.Request, *values: Any
    ) -> Iterator[Update]:
        """Answer what was typed."""
        now = self.keeper(request).fresh(conversation)
        yield from answer(self, prompt or "", now, request, values)

    def on_retry(
        self, conversation: Conversation, request: gr.Request, *values: Any
    ) -> Iterator[Update]:
        """Answer the last message again, with the settings as they are now."""
        now = self.keeper(request).fresh(conversation)
        last = now.last_question
        if last is None:
            yield {self.notice: render_notice(_texts.say("nothing_to_retry"))}
            return
        question = now.turns[last].content
        yield from answer(self, question, now, request, values, num_kept=last)

    def on_edit(
        self, conversation: Conversation, event: gr.EditData, request: gr.Request, *values: Any
    ) -> Iterator[Update]:
        """Answer a message as it was edited; what stood behind it goes."""
        now = self.keeper(request).fresh(conversation)
        index = event.index if isinstance(event.index, int) else -1
        position = turn_at(now.turns, index) if index >= 0 else None
        if position is None or now.turns[position].role != "user":
            yield {self.log: bubbles_of(now.turns), self.notice: render_notice(_texts.say("gone"))}
            return
        if len(now.turns[position].content) > MAX_SHOWN_CHARS:
            said = render_notice(_texts.say("too_long_to_edit"), "warning")
            yield {self.log: bubbles_of(now.turns), self.notice: said}
            return
        prompt = written(str(event.value))
        yield from answer(self, prompt, now, request, values, num_kept=position)

    def on_example(
        self, conversation: Conversation, event: gr.SelectData, request: gr.Request, *values: Any
    ) -> Iterator[Update]:
        """Answer the example that was clicked; what is typed in the box stays there."""
        now = self.keeper(request).fresh(conversation)
        prompt = str(event.value["text"])
        yield from answer(self, prompt, now, request, values, num_kept=len(now.turns))

    def on_undo(self, conversation: Conversation, search: str, request: gr.Request) -> Update:
        """Take the last message and its reply back, the message into its box."""
        keeper = self.keeper(request)
        now = keeper.fresh(conversation)
        last = now.last_question
        if last is None:
            return {self.notice: render_notice(_texts.say("nothing_to_retry"))}
        try:
            kept = keeper.withdraw(now, last)
        except StoreError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}
        prompt = well_formed(now.turns[last].content)
        return {**self.show(kept, search, request), self.prompt: prompt}

    def on_remove(
        self, conversation: Conversation, search: str, event: gr.EventData, request: gr.Request
    ) -> Update:
        """Take out one question with its reply, wherever they stand."""
        keeper, asked_at = self.keeper(request), event._data.get("value")
        now = keeper.fresh(conversation)
        if now.under_way or session_of(request) in self.replies:
            return {self.notice: render_notice(_texts.say("goes_on"), "warning")}
        asked = [turn.created_at.isoformat() for turn in now.turns]
        if asked_at not in asked:
            return {self.notice: render_notice(_texts.say("gone"), "warning")}
        try:
            kept = keeper.withdraw(now, asked.index(asked_at))
        except StoreError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}
        return self.show(kept, search, request)

    def on_stop(self, request: gr.Request) -> None:
        """Cancel within one step; the run's own updates, which may overtake us, say all of it."""
        self.page.stop(request, PLACE)

    def on_clear(self, search: str, request: gr.Request) -> Update:
        """Begin a new conversation; the one before stays in the list."""
        return self.show(Conversation(), search, request)

    def on_open(self, chat_id: str, search: str, request: gr.Request, *bar: Any) -> Update:
        """Show a conversation of the list, with the settings and pair that wrote it."""
        return self._open(chat_id, search, request, bar)

    def on_load(self, chat_id: str, search: str, request: gr.Request, *bar: Any) -> Update:
        """Bring back what the browser showed before its page was loaded anew."""
        keeper, until_s = self.keeper(request), time.monotonic() + _SETTLE_S
        while keeper.fresh(Conversation(chat_id or None)).under_way:
            if time.monotonic() > until_s:
                break
            time.sleep(0.1)
        if session_of(request) in self.replies:
            return {self.notice: gr.skip()}  # a message was sent meanwhile
        return self._open(chat_id, search, request, bar, loaded=True)

    def on_search(self, conversation: Conversation, search: str, request: gr.Request) -> Update:
        """List what was searched for."""
        update = self.side.show(self.keeper(request), conversation, search)
        return {widget: update[widget] for widget in (self.side.chosen, self.side.empty)}

    def on_rename(
        self, conversation: Conversation, chat_id: str, title: str, search: str, request: gr.Request
    ) -> Update:
        """Give a conversation another title.

        Who leaves the box for another conversation may be shown that one before this is called.

        Args:
            conversation: that is shown by now.
            chat_id: of the one whose title was in the box.
            title: what the box said.
            search: what the list is searched for.
            request: who asks.
        """
        keeper, named = self.keeper(request), Conversation(chat_id or None)
        shown = named.chat_id == conversation.chat_id
        before, typed = format_excerpt(keeper.title(named)), title or ""
        if named.chat_id is None or typed == before:
            return {self.side.title: before if shown else gr.skip()}
        try:
            keeper.chats.rename(named.chat_id, keeper.owner, typed)
        except StoreError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}
        renamed = format_excerpt(keeper.title(named))
        update = self.side.list(keeper, search)
        return update | {self.side.title: renamed} if shown else update

    def on_ask(self, conversation: Conversation, request: gr.Request) -> Update:
        """Ask whether to delete the conversation."""
        return self.side.ask(self.keeper(request), conversation)

    def on_delete(self, conversation: Conversation, search: str, request: gr.Request) -> Update:
        """Delete the conversation for good."""
        keeper = self.keeper(request)
        try:
            if conversation.chat_id is not None:
                keeper.chats.delete(conversation.chat_id, keeper.owner)
        except StoreError as error:
            told = render_notice(self.page.told(error), "error")
            return {**self.side.calm(), self.notice: told}
        shown = self.show(Conversation(), search, request)
        said = render_notice(_texts.say("deleted"), "success")
        return {**shown, self.notice: said}

    def on_markdown(self, conversation: Conversation, request: gr.Request) -> Update:
        """Hand the conversation to the browser as a file to read."""
        return self._hand_out(conversation, ".md", request)

    def on_json(self, conversation: Conversation, request: gr.Request) -> Update:
        """Hand the conversation to the browser as a file for programs."""
        return self._hand_out(conversation, ".json", request)

    def _hand_out(self, conversation: Conversation, ending: str, request: gr.Request) -> Update:
        try:
            return self.side.hand_out(self.keeper(request), conversation, ending)
        except StoreError as error:
            return {self.side.question: render_notice(self.page.told(error), "error")}

    def _open(
        self,
        chat_id: str,
        search: str,
        request: gr.Request,
        bar: Sequence[Any],
        *,
        loaded: bool = False,
    ) -> Update:
        keeper = self.keeper(request)
        try:
            chat = load(keeper, chat_id)
        except StoreCorrupt as error:  # it can still be deleted
            shown = self.show(Conversation(chat_id), search, request)
            return shown | {self.notice: render_notice(self.page.told(error), "error")}
        except StoreError as error:
            return {self.notice: render_notice(self.page.told(error), "error")}
        if chat is None:
            shown = self.show(Conversation(), search, request)
            gone = "" if loaded else render_notice(_texts.say("gone"), "warning")
            return shown | {self.notice: gone}
        shown = self.show(Conversation.of(chat), search, request)
        heading = self.sampling.say_heading(_texts.say("settings"), chat.settings)
        shown |= {self.fold: gr.Accordion(label=heading)}
        return shown | self._settle(chat, bar)

    def _settle(self, chat: Chat, bar: Sequence[Any]) -> Update:
        """Bring back the settings that a conversation was written with, and the pair."""
        update: Update = dict(restored_settings(self.sampling, chat.settings))
        wrote = last_figures(chat.turns)
        if update:
            pair = wrote.pair if wrote else None
            preset = matching_preset(self.page.workspace, chat.settings, pair)
            update[self.sampling.preset] = preset
        asked = ask_back(self.page, wrote, bar) if wrote else ""
        if wrote and asked is None:
            said = _texts.say("pair_gone", pair=wrote.pair)
            update[self.notice] = render_notice(said, "warning")
        elif asked:
            update[self.pair_back] = asked
        return update


def build(page: Page) -> None:
    """Build the tab."""
    turns = gr.State(Conversation())
    # Not a secret: what it hides is an id, which opens a conversation for its owner only.
    stored = gr.BrowserState("", storage_key=_STORAGE, secret=_STORAGE)
    with gr.Row(equal_height=False, elem_id="chat"):
        with gr.Column(scale=1, min_width=190, elem_id="chat-side", elem_classes="slim"):
            side = build_chat_list()
        with gr.Column(scale=3, min_width=320):
            log = gr.Chatbot(
                label=_texts.label("conversation"), show_label=False, height=430,
                elem_id="chat-log", placeholder=_texts.label("welcome"), buttons=["copy"],
                editable="user", latex_delimiters=LATEX, allow_tags=False,
                group_consecutive_messages=False,
                examples=[{"text": prompt} for prompt in EXAMPLE_PROMPTS],
            )  # fmt: skip
            acts = gr.HTML(elem_id="chat-acts", padding=False, js_on_load=REMOVE_JS)
            with gr.Row():
                prompt = gr.Textbox(
                    label=_texts.label("message"), show_label=False,
                    placeholder=_texts.label("message_hint"), lines=1, max_lines=8, scale=8,
                    min_width=180, container=False, elem_id="chat-prompt",
                )  # fmt: skip
                send = gr.Button(_texts.label("send"), variant="primary", scale=1, min_width=86,
                                 elem_id="chat-send", elem_classes="while-idle")  # fmt: skip
                stop = gr.Button(_texts.label("stop"), variant="stop", scale=1, min_width=86,
                                 elem_id="chat-stop", elem_classes="while-busy")  # fmt: skip
            with gr.Row(elem_id="chat-below"):  # what is told here moves neither log nor box
                retry = gr.Button(_texts.label("retry"), size="sm", scale=0, min_width=86,
                                  elem_id="chat-retry")  # fmt: skip
                notice = gr.HTML(elem_id="chat-notice", padding=False)
        with gr.Column(scale=2, min_width=320, elem_classes="side-panel"):
            panel = gr.HTML(render_panel(), elem_id="chat-panel")
            colour = gr.Checkbox(True, label=_texts.label("colour"), container=False,
                                 elem_id="chat-colour")  # fmt: skip
            with gr.Accordion(
                _texts.label("settings"), open=False, elem_id="chat-settings"
            ) as fold:
                sampling = build_sampling("chat")
    pair_back = gr.Textbox(visible="hidden", elem_id="chat-pair-back")
    tab = ChatTab(
        page, log, turns, stored, prompt, notice, panel, send, stop, retry, colour, side, sampling,
        fold, pair_back,
    )  # fmt: skip
    connect_presets(sampling, page)
    connect_pair_back(page, pair_back)
    connect_heading(sampling, fold, lambda: _texts.say("settings"))
    acts.select(tab.on_remove, [turns, side.search], tab.outputs, **_QUIET)
    _connect_replies(tab)
    _connect_list(tab)
    _connect_page(tab)


_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def _connect_replies(tab: ChatTab) -> None:
    shown: dict[str, Any] = {
        "state": gr.State(None),
        "outputs": tab.outputs,
        "live": [tab.log, tab.panel],
    }
    asked = [tab.prompt, tab.turns, *tab.settings]
    sent = [tab.prompt.submit, tab.send.click]
    connect_flow(sent, tab.on_send, inputs=asked, box=tab.prompt, **shown)
    connect_flow([tab.retry.click, tab.log.retry], tab.on_retry, inputs=asked[1:], **shown)
    connect_flow([tab.log.edit], tab.on_edit, inputs=asked[1:], **shown)
    connect_flow([tab.log.example_select], tab.on_example, inputs=asked[1:], **shown)
    tab.stop.click(tab.on_stop, queue=False, show_progress="hidden", api_visibility="private")
    tab.log.undo(tab.on_undo, [tab.turns, tab.side.search], tab.outputs, **_QUIET)


def _connect_list(tab: ChatTab) -> None:
    side, shown = tab.side, [tab.turns, tab.side.search]
    gr.on([side.new.click, tab.log.clear], tab.on_clear, side.search, tab.outputs, **_QUIET)
    asked = [side.chosen, side.search, *tab.page.bar.inputs]
    side.chosen.input(tab.on_open, asked, tab.opened, **_QUIET)
    side.search.change(
        tab.on_search, shown, [side.chosen, side.empty], trigger_mode="always_last", **_QUIET
    )
    gr.on(
        [side.title.submit, side.title.blur],
        tab.on_rename,
        [tab.turns, tab.stored, side.title, side.search],
        [tab.notice, side.chosen, side.title],
        **_QUIET,
    )
    side.delete.click(tab.on_ask, tab.turns, side.deletion, **_QUIET)
    side.keep.click(side.calm, None, side.deletion, **_QUIET)
    side.confirm.click(tab.on_delete, shown, tab.outputs, **_QUIET)
    for button, hand_out in ((side.markdown, tab.on_markdown), (side.json, tab.on_json)):
        button.click(hand_out, tab.turns, [*side.files, side.question], **_QUIET).then(
            None, list(side.files), list(side.files), js=SAVE_FILE, **_QUIET
        )


def _connect_page(tab: ChatTab) -> None:
    blocks: Any = Context.root_block
    asked = [tab.stored, tab.side.search, *tab.page.bar.inputs]
    blocks.load(tab.on_load, asked, tab.opened, **_QUIET)
    blocks.load(None, js=PAGE_SCRIPT, **_QUIET)
