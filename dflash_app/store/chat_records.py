"""What a conversation holds, and how its rows are read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dflash_app.errors import StoreCorrupt
from dflash_app.request import Message, Role
from dflash_app.store.records import RunEnd

MAX_TITLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class ReplyFigures:
    """Figures of the run that made a reply; None = unknown, see `metrics.RunMetrics`."""

    pair: str
    mode: str
    num_output_tokens: int | None
    decode_tok_s: float | None
    ttft_s: float | None
    mean_acceptance_length: float | None
    acceptance_shared: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: "user" or "assistant".
        content: the text; of a reply that is not through, what its run has saved so far.
        created_at: when the question was asked, UTC; a reply has its question's.
        run_id: of a reply: its run; None where none was begun.
        finish_reason: of a reply: how its run ended, None while it goes on.
        figures: of a reply whose run is in the log.
    """

    role: Role
    content: str
    created_at: datetime
    run_id: int | None = None
    finish_reason: RunEnd | None = None
    figures: ReplyFigures | None = None

    @property
    def awaited(self) -> bool:
        """True for a reply that is still to come, or to be ended."""
        return self.role == "assistant" and self.finish_reason is None

    @property
    def under_way(self) -> bool:
        """True for a reply that a run writes just now."""
        return self.awaited and self.run_id is not None

    @property
    def lost(self) -> bool:
        """True for a reply that no run has written."""
        return self.awaited and self.run_id is None

    @property
    def cut(self) -> bool:
        """True for a reply that a crash cut: what there is of it may lack its end."""
        interrupted = self.role == "assistant" and self.finish_reason == "interrupted"
        return interrupted or self.lost

    @property
    def message(self) -> Message:
        """The turn as a model takes it."""
        return Message(self.role, self.content)


@dataclass(frozen=True, slots=True)
class ChatHead:
    """A conversation in a list.

    Attributes:
        id: 32 hex digits.
        title: of the first message until the user renames it; "" before there is any.
        created_at: UTC.
        updated_at: when a message was sent last, UTC.
        damaged: its row cannot be read: the times say nothing.
    """

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Chat:
    """A whole conversation.

    Attributes:
        head: its entry in the list.
        turns: in their order.
        settings: what its owner chose for it, as the surface saved it.
    """

    head: ChatHead
    turns: tuple[Turn, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def listed_head(row: Mapping[str, Any]) -> ChatHead:
    """A row of `chats` as a head, a damaged one marked."""
    try:
        return _read_head(row)
    except (ValueError, TypeError):
        never = datetime.fromtimestamp(0, UTC)
        return ChatHead(row["id"], str(row["title"]), never, never, damaged=True)


def read_chat(row: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> Chat:
    """A row of `chats` and its rows of `turns`, each joined with its run.

    Raises:
        StoreCorrupt: one of them cannot be read.
    """
    try:
        settings = json.loads(row["settings"])
        read = tuple(_read_turn(turn) for turn in turns)
        head = _read_head(row)
    except (ValueError, TypeError) as error:
        raise StoreCorrupt(
            f"The conversation {row['id']} is damaged ({error}): delete it; the others are whole."
        ) from error
    return Chat(head, read, settings if isinstance(settings, dict) else {})


def _read_head(row: Mapping[str, Any]) -> ChatHead:
    created, updated = map(datetime.fromisoformat, (row["created_at"], row["updated_at"]))
    return ChatHead(row["id"], row["title"], created, updated)


def title_of(text: str) -> str:
    """The beginning of a message on one line."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TITLE_CHARS else line[: MAX_TITLE_CHARS - 1].rstrip() + "…"


def _read_turn(row: Mapping[str, Any]) -> Turn:
    figures = None
    if row["pair"] is not None:
        figures = ReplyFigures(
            row["pair"],
            row["mode"],
            row["num_output_tokens"],
            row["decode_tok_s"],
            row["ttft_s"],
            row["mean_acceptance_length"],
            bool(row["acceptance_shared"]),
        )
    return Turn(
        row["role"],
        row["content"] if row["content"] is not None else row["output"] or "",
        datetime.fromisoformat(row["created_at"]),
        row["run_id"],
        row["finish_reason"] or row["run_end"],
        figures,
    )
