"""The column beside the chat: its conversations, to search, open, rename, delete and download."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from dflash_app.store.chat_records import Chat, ChatHead
from dflash_app.ui.chat_conversation import Conversation, Keeper
from dflash_app.ui.chat_export import file_name, to_json, to_markdown
from dflash_app.ui.components import render_notice
from dflash_app.ui.format import format_excerpt
from dflash_app.ui.language import Texts

_texts = Texts.load("chat_list", Path(__file__).with_name("texts") / "chat_list.yaml")

Update = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class ChatList:
    """The widgets; what they do to the rest of the tab is the tab's business.

    Attributes:
        new: begins a conversation.
        search: part of a title or a message.
        chosen: the conversations; its value is the id of the one that is shown.
        empty: says why the list is empty.
        title: of the shown one, to be edited.
        files: name and content of a file on its way to the browser.
    """

    new: gr.Button
    search: gr.Textbox
    chosen: gr.Radio
    empty: gr.HTML
    title: gr.Textbox
    markdown: gr.Button
    json: gr.Button
    delete: gr.Button
    confirm: gr.Button
    keep: gr.Button
    question: gr.HTML
    files: tuple[gr.Textbox, gr.Textbox]

    @property
    def outputs(self) -> list[Any]:
        """What changes when another conversation is shown."""
        return [self.chosen, self.empty, self.title]

    @property
    def deletion(self) -> list[Any]:
        return [self.delete, self.confirm, self.keep, self.question]

    def show(self, keeper: Keeper, conversation: Conversation, text: str | None) -> Update:
        """List what a search finds, with the conversation that is shown marked in it."""
        heads = keeper.heads(text)
        listed = [head.id for head in heads or ()]
        chosen = conversation.chat_id if conversation.chat_id in listed else None
        return {
            self.chosen: gr.Radio(_names(heads), value=chosen),
            self.empty: "" if heads else _say_empty(text, readable=heads is not None),
            self.title: format_excerpt(keeper.title(conversation)),
        }

    def list(self, keeper: Keeper, text: str | None) -> Update:
        """List what a search finds, whatever is marked in it."""
        return {self.chosen: gr.Radio(_names(keeper.heads(text)))}

    def ask(self, keeper: Keeper, conversation: Conversation) -> Update:
        """Ask before deleting; says so where there is nothing to delete."""
        if conversation.chat_id is None:
            said = _texts.say("nothing_kept")
            return {**self.calm(), self.question: render_notice(said)}
        said = _texts.say("ask_delete", title=format_excerpt(keeper.title(conversation), 60))
        return {**self._offer(asking=True), self.question: render_notice(said, "warning")}

    def calm(self) -> Update:
        """Offer to delete, ask nothing."""
        return {**self._offer(asking=False), self.question: ""}

    def hand_out(self, keeper: Keeper, conversation: Conversation, ending: str) -> Update:
        """Give the conversation to the browser, which makes the file.

        Args:
            keeper: finds it.
            conversation: which.
            ending: ".md" or ".json".

        Raises:
            StoreError: the conversation cannot be read.
        """
        name, content = self.files
        chat = load(keeper, conversation.chat_id)
        if chat is None:
            return {self.question: render_notice(_texts.say("nothing_kept"))}
        text = to_json(chat) if ending == ".json" else to_markdown(chat)
        return {name: file_name(chat, ending), content: text, self.question: ""}

    def _offer(self, *, asking: bool) -> Update:
        return {
            self.delete: gr.Button(visible=not asking),
            self.confirm: gr.Button(visible=asking),
            self.keep: gr.Button(visible=asking),
        }


def build_chat_list() -> ChatList:
    """Make the column; `chat-clear` is the name that its button for a new chat always had."""
    small: dict[str, Any] = {"size": "sm", "min_width": 60}
    new = gr.Button(_texts.label("new"), size="md", elem_id="chat-clear")
    with gr.Accordion(_texts.label("conversations"), open=True, elem_id="chat-list-fold"):
        search = gr.Textbox(
            label=_texts.label("search"), show_label=False, placeholder=_texts.label("search"),
            max_lines=1, container=False, elem_id="chat-search",
        )  # fmt: skip
        chosen = gr.Radio(
            [], label=_texts.label("conversations"), show_label=False, container=False,
            elem_id="chat-list",
        )  # fmt: skip
        empty = gr.HTML(elem_id="chat-list-empty")
        title = gr.Textbox(
            label=_texts.label("title"), placeholder=_texts.label("title_hint"), max_lines=1,
            elem_id="chat-title",
        )  # fmt: skip
        with gr.Row(elem_id="chat-list-acts"):
            markdown = gr.Button(_texts.label("markdown"), **small, elem_id="chat-markdown")
            json = gr.Button(_texts.label("json"), **small, elem_id="chat-json")
            delete = gr.Button(_texts.label("delete"), **small, elem_id="chat-delete")
            # It takes the place of "Delete", where a second click must not delete.
            keep = gr.Button(_texts.label("keep"), visible=False, **small, elem_id="chat-keep")
            confirm = gr.Button(
                _texts.label("delete_for_good"), variant="stop", visible=False, **small,
                elem_id="chat-confirm",
            )  # fmt: skip
        question = gr.HTML(elem_id="chat-question")
    name = gr.Textbox(visible="hidden", elem_id="chat-file-name")
    content = gr.Textbox(visible="hidden", elem_id="chat-file")
    files = (name, content)
    return ChatList(
        new, search, chosen, empty, title, markdown, json, delete, confirm, keep, question, files
    )


def load(keeper: Keeper, chat_id: str | None) -> Chat | None:
    """A conversation of the owner, or None.

    Raises:
        StoreError: it cannot be read.
    """
    return keeper.chats.load(chat_id, keeper.owner) if chat_id else None


def _names(heads: Sequence[ChatHead] | None) -> list[tuple[str, str]]:
    return [(_name(head), head.id) for head in heads or ()]


def _name(head: ChatHead) -> str:
    title = format_excerpt(head.title, 60) or "…"
    return _texts.say("damaged", title=title) if head.damaged else title


def _say_empty(text: str | None, *, readable: bool) -> str:
    none = "none_found" if (text or "").strip() else "none_yet"
    said = _texts.say(none if readable else "unreadable")
    return f'<p class="chat-quiet">{said}</p>'
