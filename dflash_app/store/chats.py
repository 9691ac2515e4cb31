"""Conversations and their turns, each reached by its owner only."""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import sqlite_utils

from dflash_app.store.chat_records import (
    MAX_TITLE_CHARS,
    Chat,
    ChatHead,
    Turn,
    listed_head,
    read_chat,
    title_of,
)
from dflash_app.store.records import storable, time_text

_TURNS = """
    SELECT turns.*, runs.output, runs.finish_reason AS run_end, runs.pair, runs.mode,
        runs.num_output_tokens, runs.decode_tok_s, runs.ttft_s, runs.mean_acceptance_length,
        runs.acceptance_shared
    FROM turns LEFT JOIN runs ON runs.id = turns.run_id
    WHERE chat_id = ? ORDER BY position
"""
_MATCHES = """
    (instr(lower(title), lower(:text)) OR EXISTS (
        SELECT 1 FROM turns WHERE chat_id = chats.id AND instr(lower(content), lower(:text))))
"""
_TAKE_REPLIES = """
    UPDATE turns SET
        content = (SELECT output FROM runs WHERE id = run_id),
        finish_reason = (SELECT finish_reason FROM runs WHERE id = run_id)
    WHERE content IS NULL
        AND run_id IN (SELECT id FROM runs WHERE finish_reason IS NOT NULL)
"""


class Chats:
    """The conversations of a `Store`, which makes it; any thread may call it.

    `owner` is None on one's own machine, a visitor's key on a public one. What belongs to another
    owner is not found. Errors are the store's.

    The text of a reply is its run's. It is copied into the conversation in the same transaction in
    which the run ends or is found interrupted, so that nobody need be there to do it, and so that
    deleting the run takes nothing away.
    """

    def __init__(
        self,
        db: sqlite_utils.Database,
        reading: Callable[[], AbstractContextManager[None]],
        writing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Work on the store's connection.

        Args:
            db: the connection.
            reading: holds its lock.
            writing: holds its lock and a transaction.
        """
        self._db = db
        self._reading = reading
        self._writing = writing

    def create(
        self,
        owner: str | None,
        settings: Mapping[str, Any] | None = None,
        turns: Sequence[Turn] = (),
    ) -> str:
        """Begin a conversation.

        Args:
            owner: whose.
            settings: what was chosen for it.
            turns: what it begins with.

        Returns:
            Its id.
        """
        chat_id, now = uuid.uuid4().hex, _now()
        with self._writing():
            self._db.table("chats").insert(
                {
                    "id": chat_id,
                    "owner": owner,
                    "settings": _settings_text(settings or {}),
                    "created_at": now,
                    "updated_at": now,
                }
            )
            self._insert(chat_id, 0, turns)
        return chat_id

    def list_heads(self, owner: str | None, *, text: str = "", limit: int = 200) -> list[ChatHead]:
        """List conversations that have a message, the one that was written in last first.

        One whose row is damaged is listed as such.

        Args:
            owner: whose.
            text: part of a title or a message, in any case of ASCII letters; "" for all.
            limit: most to return.
        """
        where = "owner IS :owner AND EXISTS (SELECT 1 FROM turns WHERE chat_id = chats.id)"
        if text:
            where += f" AND {_MATCHES}"
        with self._reading():
            rows = self._db.table("chats").rows_where(
                where,
                {"owner": owner, "text": storable(text)},
                order_by="updated_at DESC, rowid DESC",
                limit=limit,
            )
            return [listed_head(row) for row in rows]

    def title(self, chat_id: str, owner: str | None) -> str | None:
        """What the list calls a conversation, or None where the owner has none with this id."""
        with self._reading():
            row = self._db.execute(
                "SELECT title FROM chats WHERE id = ? AND owner IS ?", [chat_id, owner]
            ).fetchone()
            return None if row is None else str(row[0])

    def load(self, chat_id: str, owner: str | None) -> Chat | None:
        """A conversation with its turns, or None where the owner has none with this id.

        Raises:
            StoreCorrupt: it is damaged; the others are whole.
        """
        with self._reading():
            found = self._db.table("chats").rows_where("id = ? AND owner IS ?", [chat_id, owner])
            row = next(found, None)
            if row is None:
                return None
            turns = list(self._db.query(_TURNS, [chat_id]))
        return read_chat(row, turns)

    def rename(self, chat_id: str, owner: str | None, title: str) -> bool:
        """Give a conversation a title that stays; an empty one gives back that of its beginning.

        Returns:
            Whether the owner has this conversation.
        """
        title = storable(" ".join(title.split()))[:MAX_TITLE_CHARS]
        with self._writing():
            found = self._update(chat_id, owner, {"title": title, "renamed": int(bool(title))})
            if found:
                self._entitle(chat_id)
            return found

    def delete(self, chat_id: str, owner: str | None) -> bool:
        """Delete a conversation with its turns; its runs stay in the log.

        Returns:
            Whether the owner had this conversation.
        """
        with self._writing():
            gone = self._db.execute(
                "DELETE FROM chats WHERE id = ? AND owner IS ?", [chat_id, owner]
            ).rowcount
            if gone:
                self._db.execute("DELETE FROM turns WHERE chat_id = ?", [chat_id])
        return bool(gone)

    def begin_reply(
        self,
        chat_id: str,
        owner: str | None,
        num_kept: int,
        prompt: str,
        *,
        asked_at: datetime | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> datetime | None:
        """Write down a question, and a reply that is to come, after the first `num_kept` turns.

        What stood behind those is deleted: a question edited or answered again.

        Args:
            chat_id: from `create`.
            owner: whose.
            num_kept: turns to keep.
            prompt: the user's message.
            asked_at: when, with its zone; None for now. No two questions of a conversation are
                asked in the same microsecond: it names this one to `link_run` and `withdraw`.
            settings: what was chosen for the conversation; None leaves that as it is.

        Returns:
            `asked_at`; None where the owner has no such conversation.
        """
        asked_at = asked_at or datetime.now(UTC)
        kept = {} if settings is None else {"settings": _settings_text(settings)}
        with self._writing():
            if not self._update(chat_id, owner, kept | {"updated_at": time_text(asked_at)}):
                return None
            self._drop_turns(chat_id, num_kept)
            pair = [Turn("user", prompt, asked_at), Turn("assistant", "", asked_at)]
            self._insert(chat_id, num_kept, pair)
        return asked_at

    def link_run(self, chat_id: str, run_id: int, asked_at: datetime) -> None:
        """Say which run writes the reply to the question of `asked_at`.

        Where another has taken the question's place while the run waited for the device, nothing
        happens.

        Args:
            chat_id: from `create`.
            run_id: from `Store.start_run`.
            asked_at: from `begin_reply`.
        """
        with self._writing():
            self._db.execute(
                "UPDATE turns SET run_id = ? WHERE chat_id = ? AND role = 'assistant' "
                "AND created_at = ? AND content IS NULL AND run_id IS NULL",
                [run_id, chat_id, time_text(asked_at)],
            )

    def withdraw(
        self, chat_id: str, owner: str | None, asked_at: datetime, instead: Sequence[Turn] = ()
    ) -> bool:
        """Take out one question and its reply; what stands before and behind them stays.

        Args:
            chat_id: from `create`.
            owner: whose.
            asked_at: of the question.
            instead: turns to stand in their place: those that `begin_reply` deleted.

        Returns:
            Whether the owner has this question in this conversation.
        """
        with self._writing():
            found = self._db.execute(
                "SELECT position FROM turns WHERE chat_id = ? AND role = 'user' AND created_at = ?",
                [chat_id, time_text(asked_at)],
            ).fetchone()
            if not found or not self._update(chat_id, owner, {"updated_at": _now()}):
                return False
            first = found[0]
            behind = "chat_id = ? AND position BETWEEN ? AND ?"
            self._db.execute(f"DELETE FROM turns WHERE {behind}", [chat_id, first, first + 1])  # noqa: S608
            # By way of negative numbers, as no two turns may meet in one place.
            for shift in (f"-(position + {len(instead) - 2}) - 1", "-position - 1"):
                self._db.execute(
                    f"UPDATE turns SET position = {shift} "  # noqa: S608
                    "WHERE chat_id = ? AND (position > ? OR position < 0)",
                    [chat_id, first],
                )
            self._insert(chat_id, first, instead)
            self._entitle(chat_id)
        return True

    def put_back(
        self, chat_id: str, owner: str | None, num_kept: int, turns: Sequence[Turn]
    ) -> bool:
        """Let turns stand behind the first `num_kept`, in the place of what stands there.

        Returns:
            Whether the owner has this conversation.
        """
        with self._writing():
            found = self._update(chat_id, owner, {"updated_at": _now()})
            if found:
                self._drop_turns(chat_id, num_kept)
                self._insert(chat_id, num_kept, turns)
        return found

    def _update(self, chat_id: str, owner: str | None, row: Mapping[str, Any]) -> bool:
        columns = ", ".join(f"{name} = ?" for name in row)
        changed = self._db.execute(
            f"UPDATE chats SET {columns} WHERE id = ? AND owner IS ?",  # noqa: S608
            [*row.values(), chat_id, owner],
        )
        return bool(changed.rowcount)

    def _insert(self, chat_id: str, first: int, turns: Sequence[Turn]) -> None:
        """Write turns from a position on; a reply that is not through takes its text later."""
        self._db.table("turns").insert_all(
            {
                "chat_id": chat_id,
                "position": position,
                "role": turn.role,
                "content": None if turn.awaited else storable(turn.content),
                "run_id": turn.run_id,
                "finish_reason": turn.finish_reason,
                "created_at": time_text(turn.created_at),
            }
            for position, turn in enumerate(turns, start=first)
        )
        if first == 0:
            self._entitle(chat_id)

    def _entitle(self, chat_id: str) -> None:
        """Call a conversation by its first message, unless its owner has named it."""
        first = self._db.execute(
            "SELECT content FROM turns WHERE chat_id = ? AND position = 0", [chat_id]
        ).fetchone()
        self._db.execute(
            "UPDATE chats SET title = ? WHERE id = ? AND NOT renamed",
            [title_of(first[0]) if first else "", chat_id],
        )

    def _drop_turns(self, chat_id: str, num_kept: int) -> None:
        self._db.execute(
            "DELETE FROM turns WHERE chat_id = ? AND position >= ?", [chat_id, num_kept]
        )


def take_replies(db: sqlite_utils.Database) -> None:
    """Copy the text of runs that have ended into the replies that wait for it.

    Call it in the transaction that ends, interrupts or deletes runs.
    """
    db.execute(_TAKE_REPLIES)


def expire_chats(db: sqlite_utils.Database, before: datetime) -> int:
    """Delete conversations that were written in last before a time; call it in a transaction.

    Returns:
        How many.
    """
    old = db.execute("DELETE FROM chats WHERE updated_at < ?", [time_text(before)]).rowcount
    db.execute("DELETE FROM turns WHERE chat_id NOT IN (SELECT id FROM chats)")
    return old


def _settings_text(settings: Mapping[str, Any]) -> str:
    return json.dumps(dict(settings))


def _now() -> str:
    return time_text(datetime.now(UTC))
