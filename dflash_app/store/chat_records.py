"""What a conversation holds, and how its rows are read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
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


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: "user" or "assistant".
        content: the text; of a reply that is not through, what its run has saved so far.
        created_at: when the question was asked, UTC.
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
    def lost(self) -> bool:
        """True for a reply that no run has written."""
        return self.role == "assistant" and self.run_id is None and self.finish_reason is None

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
    """

    id: str
    title: str
    created_at: datetime
    updated_at: datetime


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


def read_head(row: Mapping[str, Any]) -> ChatHead:
    """A row of `chats` as a head.

    Raises:
        StoreCorrupt: a time in it cannot be read.
    """
    try:
        created, updated = map(datetime.fromisoformat, (row["created_at"], row["updated_at"]))
    except (ValueError, TypeError) as error:
        raise StoreCorrupt(f"conversation {row['id']} is damaged: {error}") from error
    return ChatHead(row["id"], row["title"], created, updated)


def read_chat(row: Mapping[str, Any], turns: list[Mapping[str, Any]]) -> Chat:
    """A row of `chats` and its rows of `turns`, each joined with its run.

    Raises:
        StoreCorrupt: one of them cannot be read.
    """
    try:
        settings = json.loads(row["settings"])
        read = tuple(_read_turn(turn) for turn in turns)
    except (ValueError, TypeError) as error:
        raise StoreCorrupt(f"conversation {row['id']} is damaged: {error}") from error
    return Chat(read_head(row), read, settings if isinstance(settings, dict) else {})


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
        )
    return Turn(
        row["role"],
        row["content"] if row["content"] is not None else row["output"] or "",
        datetime.fromisoformat(row["created_at"]),
        row["run_id"],
        row["finish_reason"] or row["run_end"],
        figures,
    )
