"""The Chat tab's widgets, and what all its events share: whose conversations, what is shown."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from dflash_app.ui.chat_bubbles import bubbles_of
from dflash_app.ui.chat_conversation import Conversation, Keeper
from dflash_app.ui.chat_list import ChatList
from dflash_app.ui.chat_reply import PLACE, Reply, render_panel
from dflash_app.ui.flow import Update
from dflash_app.ui.sampling import SamplingControls
from dflash_app.ui.shell import Page, session_of


@dataclass(frozen=True, slots=True)
class ChatWidgets:
    """The widgets and the page they are on.

    Attributes:
        turns: the `Conversation` that is shown.
        stored: its id, kept by the browser, so that a reload brings it back.
        fold: around `sampling`, whose values its heading tells while it is closed.
        pair_back: a box that nobody sees, see `chat_pair.ask_back`.
        replies: those that are being written, by browser tab.
    """

    page: Page
    log: gr.Chatbot
    turns: gr.State
    stored: gr.BrowserState
    prompt: gr.Textbox
    notice: gr.HTML
    panel: gr.HTML
    send: gr.Button
    stop: gr.Button
    retry: gr.Button
    colour: gr.Checkbox
    side: ChatList
    sampling: SamplingControls
    fold: gr.Accordion
    pair_back: gr.Textbox
    replies: dict[str, Reply] = field(default_factory=dict)

    @property
    def outputs(self) -> list[Any]:
        shown = [self.log, self.turns, self.stored, self.prompt, self.notice, self.panel]
        return [*shown, *self.side.outputs, *self.side.deletion]

    @property
    def opened(self) -> list[Any]:
        """What changes when a conversation is opened: its settings and its pair come back."""
        sampling = self.sampling
        return [*self.outputs, *sampling.inputs, sampling.preset, self.fold, self.pair_back]

    @property
    def settings(self) -> list[Any]:
        """What an answer asks for, besides the message: see `chat_flow.answer`."""
        return [*self.page.bar.inputs, *self.sampling.inputs, self.colour, self.side.search]

    def keeper(self, request: gr.Request) -> Keeper:
        """The conversations of who asks."""
        return Keeper(self.page.workspace.store.chats, self.page.owner(request))

    def show(self, conversation: Conversation, search: str, request: gr.Request) -> Update:
        """Another conversation takes the place of the one that is shown, and of its reply."""
        reply = self.replies.get(session_of(request))
        if reply is not None:
            reply.instead = conversation
        self.page.drop(request, PLACE)
        return {
            self.log: bubbles_of(conversation.turns),
            self.turns: conversation,
            self.stored: conversation.chat_id or "",
            self.notice: "",
            self.panel: render_panel(),
            **self.side.show(self.keeper(request), conversation, search),
            **self.side.calm(),  # a question to delete was asked of the one before
        }
