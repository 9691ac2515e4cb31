"""The conversation that a browser tab shows, kept in the store as it grows."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dflash_app.errors import StoreCorrupt, StoreError
from dflash_app.request import Message
from dflash_app.store.chat_records import Chat, ChatHead, ReplyFigures, Turn
from dflash_app.store.chats import Chats
from dflash_app.ui.run_view import RunView


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one browser tab knows of its conversation.

    Attributes:
        chat_id: in the store; None before the first message, and where it cannot be kept.
        turns: all messages.
        num_unkept: of them, those at the end that the store has refused.
    """

    chat_id: str | None = None
    turns: tuple[Turn, ...] = ()
    num_unkept: int = 0

    @classmethod
    def of(cls, chat: Chat) -> "Conversation":
        """As it is in the store."""
        return cls(chat.head.id, chat.turns)

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
        return bool(self.turns) and self.turns[-1].under_way

    def cut_to(self, num_kept: int) -> "Conversation":
        """Its first turns."""
        num_unkept = max(0, self.num_unkept - len(self.turns[num_kept:]))
        return replace(self, turns=self.turns[:num_kept], num_unkept=num_unkept)

    def without(self, first: int, instead: tuple[Turn, ...] = ()) -> "Conversation":
        """Without a question and its reply.

        Args:
            first: the question's place.
            instead: turns that the question had taken the place of.
        """
        before, behind = self.cut_to(first), self.turns[first + 2 :]
        num_unkept = min(self.num_unkept, len(behind))
        if before.num_unkept:
            num_unkept += before.num_unkept + len(instead)
        turns = (*before.turns, *instead, *behind)
        return replace(self, turns=turns, num_unkept=num_unkept)

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
            metrics.acceptance_shared,
        )
        end = finished.reason if finished else "cancelled" if view.stopped else "failed"
        asked_at = self.turns[-1].created_at
        reply = Turn("assistant", view.text, asked_at, view.run_id, end, figures)
        num_unkept = self.num_unkept + 1 if self.num_unkept else 0
        return replace(self, turns=(*self.turns, reply), num_unkept=num_unkept)


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
        """As the store has it now, with what it has refused before, which it is given again.

        Another browser tab may have gone on with it, or have deleted it: then it is empty. Where
        the store cannot be read it stays as it is.
        """
        try:
            if conversation.num_unkept:
                conversation = self._give(conversation)
            if conversation.chat_id is None:
                return conversation
            chat = self.chats.load(conversation.chat_id, self.owner)
        except StoreCorrupt:
            # Nothing may be written behind the turns of a damaged one, which nobody sees.
            return conversation if conversation.turns else Conversation()
        except StoreError:
            return conversation
        return Conversation.of(chat) if chat else Conversation()

    def begin_reply(self, asked: Conversation, settings: dict[str, Any]) -> Conversation:
        """Keep the last turn, a question, behind the others, whatever stood there before.

        Returns:
            The conversation with the question.

        Raises:
            StoreError: it cannot be kept.
        """
        question = asked.turns[-1]
        before = asked.cut_to(len(asked.turns) - 1)
        if before.num_unkept:
            before = self._give(before)
        told: dict[str, Any] = {"asked_at": question.created_at, "settings": settings}
        chat_id, num_kept = before.chat_id, len(before.turns)
        kept = chat_id is not None and self.chats.begin_reply(
            chat_id, self.owner, num_kept, question.content, **told
        )
        if chat_id is None or not kept:  # new, or deleted in another browser tab
            chat_id, num_kept = self.chats.create(self.owner), 0
            self.chats.begin_reply(chat_id, self.owner, 0, question.content, **told)
        chat = self.chats.load(chat_id, self.owner)
        if chat is None:
            raise StoreError("The conversation was deleted just now: send the message again.")
        return Conversation.of(chat).cut_to(num_kept + 1)

    def link(self, asked: Conversation, run_id: int) -> None:
        """Say which run writes the reply; a store that fails here fails the run's record too."""
        if asked.chat_id is not None and not asked.num_unkept:
            with suppress(StoreError):
                self.chats.link_run(asked.chat_id, run_id, asked.turns[-1].created_at)

    def settle(self, answered: Conversation) -> Conversation:
        """A reply that is through: where its run could not be recorded it is given to the store."""
        if not answered.num_unkept and answered.chat_id is not None:
            asked_at = answered.turns[-1].created_at
            try:
                chat = self.chats.load(answered.chat_id, self.owner)
            except StoreError:
                return replace(answered, num_unkept=2)
            if chat and any(each.awaited and each.created_at == asked_at for each in chat.turns):
                answered = replace(answered, num_unkept=2)
        return self.fresh(answered) if answered.num_unkept else answered

    def withdraw(
        self, conversation: Conversation, first: int, instead: tuple[Turn, ...] = ()
    ) -> Conversation:
        """Take out a question and its reply, and nothing that stands before or behind them.

        Args:
            conversation: as the page has it.
            first: the question's place.
            instead: see `Conversation.without`.

        Raises:
            StoreError: the store cannot do it.
        """
        if conversation.chat_id is not None:
            asked_at = conversation.turns[first].created_at
            self.chats.withdraw(conversation.chat_id, self.owner, asked_at, instead)
        return self.fresh(conversation.without(first, instead))

    def title(self, conversation: Conversation) -> str:
        """What the list calls it; "" before its first message and where it cannot be read."""
        if conversation.chat_id is None:
            return ""
        try:
            return self.chats.title(conversation.chat_id, self.owner) or ""
        except StoreError:
            return ""

    def heads(self, text: str | None) -> list[ChatHead] | None:
        """The conversations to list, newest first; None where the store cannot be read."""
        try:
            return self.chats.list_heads(self.owner, text=(text or "").strip())
        except StoreError:
            return None

    def _give(self, conversation: Conversation) -> Conversation:
        """Let the store have what it has refused, in the order in which it was asked.

        Raises:
            StoreError: it refuses again.
        """
        turns, num_kept = conversation.turns, len(conversation.turns) - conversation.num_unkept
        if conversation.chat_id is None:
            return Conversation(self.chats.create(self.owner, turns=turns), turns)
        chat = self.chats.load(conversation.chat_id, self.owner)
        if chat is None:
            return replace(conversation, num_unkept=0)
        num_kept = min(num_kept, len(chat.turns))
        unkept = turns[-conversation.num_unkept :]
        # What is older there was to be replaced; what is newer comes from another browser tab.
        newer = [each for each in chat.turns[num_kept:] if each.created_at > unkept[0].created_at]
        self.chats.put_back(conversation.chat_id, self.owner, num_kept, [*unkept, *newer])
        kept = (*chat.turns[:num_kept], *unkept, *newer)
        return Conversation(conversation.chat_id, kept)
