"""The conversation that a browser tab shows, kept in the store as it grows."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dflash_app.errors import StoreError
from dflash_app.request import Message
from dflash_app.store.chat_records import Chat, ChatHead, ReplyFigures, Turn
from dflash_app.store.chats import Chats
from dflash_app.ui.run_view import RunView


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one browser tab knows of its conversation.

    Attributes:
        chat_id: in the store; None before the first message, and where it cannot be kept.
        title: as the list calls it.
        turns: all messages.
    """

    chat_id: str | None = None
    title: str = ""
    turns: tuple[Turn, ...] = ()

    @classmethod
    def of(cls, chat: Chat) -> "Conversation":
        """As it is in the store."""
        return cls(chat.head.id, chat.head.title, chat.turns)

    @property
    def messages(self) -> list[Message]:
        """What a model is told of it: questions without a reply are left out."""
        told: list[Message] = []
        for question, reply in zip(self.turns[::2], self.turns[1::2], strict=False):
            if reply.content:
                told += [question.message, reply.message]
        return told

    @property
    def last_question(self) -> int | None:
        """Position of the user's last message."""
        asked = [index for index, turn in enumerate(self.turns) if turn.role == "user"]
        return asked[-1] if asked else None

    @property
    def under_way(self) -> bool:
        """True where a run writes its last reply just now."""
        last = self.turns[-1] if self.turns else None
        return last is not None and last.run_id is not None and last.finish_reason is None

    def cut_to(self, num_kept: int) -> "Conversation":
        """Its first turns."""
        return replace(self, turns=self.turns[:num_kept])

    def asked(self, prompt: str) -> "Conversation":
        """With a question behind its turns."""
        question = Turn("user", prompt, datetime.now(UTC))
        return replace(self, turns=(*self.turns, question))

    def answered(self, view: RunView, *, pair: str, mode: str) -> "Conversation":
        """With the reply that a run has written, however it ended."""
        metrics, finished = view.metrics(), view.finished
        figures = ReplyFigures(
            pair,
            mode,
            metrics.num_output_tokens,
            metrics.decode_tok_s,
            metrics.ttft_s,
            metrics.mean_acceptance_length,
        )
        end = finished.reason if finished else "cancelled" if view.stopped else "failed"
        reply = Turn("assistant", view.text, datetime.now(UTC), view.run_id, end, figures)
        return replace(self, turns=(*self.turns, reply))


@dataclass(frozen=True, slots=True)
class Keeper:
    """One owner's conversations, for a page that goes on where the store does not.

    Attributes:
        chats: the store's.
        owner: see `Chats`.
    """

    chats: Chats
    owner: str | None

    def fresh(self, conversation: Conversation) -> Conversation:
        """As the store has it now: another browser tab may have gone on with it.

        One that was deleted is empty; where the store cannot be read it stays as it is.
        """
        if conversation.chat_id is None:
            return conversation
        try:
            chat = self.chats.load(conversation.chat_id, self.owner)
        except StoreError:
            return conversation
        return Conversation.of(chat) if chat else Conversation()

    def begin_reply(
        self, conversation: Conversation, prompt: str, settings: dict[str, Any]
    ) -> tuple[Conversation, int]:
        """Keep a question behind the turns of `conversation`, whatever stood there before.

        Returns:
            (the conversation with the question, the reply's position for `link`).

        Raises:
            StoreError: it cannot be kept.
        """
        chat_id, position = conversation.chat_id, None
        if chat_id is not None:
            num_kept = len(conversation.turns)
            position = self.chats.begin_reply(chat_id, self.owner, num_kept, prompt)
        if chat_id is None or position is None:  # new, or deleted in another browser tab
            chat_id = self.chats.create(self.owner)
            position = self.chats.begin_reply(chat_id, self.owner, 0, prompt)
        self.chats.save_settings(chat_id, self.owner, settings)
        chat = self.chats.load(chat_id, self.owner)
        if chat is None or position is None:
            raise StoreError("The conversation was deleted just now: send the message again.")
        return Conversation.of(chat).cut_to(position), position

    def link(self, conversation: Conversation, position: int, run_id: int) -> None:
        """Say which run writes the reply; a store that fails here fails the run's record too."""
        if conversation.chat_id is not None:
            asked_at = conversation.turns[position - 1].created_at
            with suppress(StoreError):
                self.chats.link_run(conversation.chat_id, position, run_id, asked_at)

    def forget(self, conversation: Conversation, num_kept: int) -> Conversation:
        """Drop all turns but the first `num_kept`."""
        if conversation.chat_id is not None:
            with suppress(StoreError):
                self.chats.truncate(conversation.chat_id, self.owner, num_kept)
        return conversation.cut_to(num_kept)

    def put_back(self, conversation: Conversation, turns: tuple[Turn, ...]) -> Conversation:
        """Let turns that were to be replaced stand behind those of `conversation` again."""
        if conversation.chat_id is not None:
            num_kept = len(conversation.turns)
            with suppress(StoreError):
                self.chats.put_back(conversation.chat_id, self.owner, num_kept, turns)
        return replace(conversation, turns=(*conversation.turns, *turns))

    def heads(self, text: str | None) -> list[ChatHead]:
        """The conversations to list, newest first; none where the store cannot be read."""
        try:
            return self.chats.list_heads(self.owner, text=(text or "").strip())
        except StoreError:
            return []
