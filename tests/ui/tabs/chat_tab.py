"""The Chat tab of a workspace, its events called as browser tabs fire them."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from dflash_app.store.chat_records import Turn
from dflash_app.ui.chat_conversation import Conversation
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace
from tests.ui.stage import SAMPLING, bar, find_handler, last, play, texts, visitor

SETTINGS = [*SAMPLING, True, ""]
"""Values of the sampling controls, of the switch for colours and of the search box."""


def said(bubbles: list[dict[str, Any]]) -> list[str]:
    """What the bubbles of the log say, without the line below a reply."""
    shown = [bubble["content"][0]["text"] for bubble in bubbles]
    return [text.partition("\n\n<small")[0] for text in shown]


class Chat:
    """The tab of one workspace, driven as browser tabs would, each with a conversation of its own.

    Attributes:
        conversations: what each browser tab shows.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.blocks = build_page(workspace, LiveRuns())
        assert [each for each in workspace.plugins.problems if each.name == "tab Chat"] == []
        self.conversations: dict[str, Conversation] = {}

    def shown(self, session: str = "tab-1") -> Conversation:
        return self.conversations.get(session, Conversation())

    @property
    def turns(self) -> tuple[Turn, ...]:
        return self.shown().turns

    def send(
        self, text: str, values: list[Any] | None = None, session: str = "tab-1"
    ) -> Iterator[dict[Any, Any]]:
        asked = [text, self.shown(session), visitor(session), *(values or [*bar(), *SETTINGS])]
        yield from self._keep(session, play(self.blocks, "on_send", *asked))

    def retry(self) -> Iterator[dict[Any, Any]]:
        asked = [self.shown(), visitor(), *bar(), *SETTINGS]
        yield from self._keep("tab-1", play(self.blocks, "on_retry", *asked))

    def edit(self, index: int, text: str) -> Iterator[dict[Any, Any]]:
        event = gr.EditData(None, {"index": index, "value": text, "previous_value": ""})
        asked = [self.shown(), event, visitor(), *bar(), *SETTINGS]
        yield from self._keep("tab-1", play(self.blocks, "on_edit", *asked))

    def stop(self, session: str = "tab-1") -> None:
        find_handler(self.blocks, "on_stop")(visitor(session))

    def do(
        self, name: str, *values: Any, session: str = "tab-1", chosen: list[str] | None = None
    ) -> dict[str, Any]:
        """What an event that is no flow shows; those that open a conversation are told the bar."""
        told = (chosen or bar()) if name in ("on_open", "on_load") else []
        update = texts(find_handler(self.blocks, name)(*values, visitor(session), *told))
        self.conversations[session] = update.get("state", self.shown(session))
        return update

    def _keep(self, session: str, updates: Iterator[dict[Any, Any]]) -> Iterator[dict[Any, Any]]:
        for update in updates:
            self.conversations[session] = texts(update).get("state", self.shown(session))
            yield update


def talk(chat: Chat, *questions: str) -> None:
    for question in questions:
        assert "Finished" in last(chat.send(question))["chat-status"]


def heads(chat: Chat) -> list[str]:
    return [head.title for head in chat.workspace.store.chats.list_heads(None)]


def opened(
    chat: Chat, chat_id: str | None, session: str = "tab-1", chosen: list[str] | None = None
) -> dict[str, Any]:
    return chat.do("on_open", chat_id, "", session=session, chosen=chosen)
