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
    read_chat,
    read_head,
    title_of,
)
from dflash_app.store.records import storable

_TURNS = """
    SELECT turns.*, runs.output, runs.finish_reason AS run_end, runs.pair, runs.mode,
        runs.num_output_tokens, runs.decode_tok_s, runs.ttft_s, runs.mean_acceptance_length
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

    def create(self, owner: str | None, settings: Mapping[str, Any] | None = None) -> str:
        """Begin a conversation.

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
        return chat_id

    def list_heads(self, owner: str | None, *, text: str = "", limit: int = 200) -> list[ChatHead]:
        """List conversations that have a message, the one that was written in last first.

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
            return [read_head(row) for row in rows]

    def load(self, chat_id: str, owner: str | None) -> Chat | None:
        """A conversation with its turns, or None where the owner has none with this id."""
        with self._reading():
            found = self._db.table("chats").rows_where("id = ? AND owner IS ?", [chat_id, owner])
            row = next(found, None)
            if row is None:
                return None
            return read_chat(row, list(self._db.query(_TURNS, [chat_id])))

    def rename(self, chat_id: str, owner: str | None, title: str) -> bool:
        """Give a conversation a title that stays; an empty one gives back that of its beginning.

        Returns:
            Whether the owner has this conversation.
        """
        title = storable(" ".join(title.split()))[:MAX_TITLE_CHARS]
        with self._writing():
            row = {"title": title, "renamed": int(bool(title))}
            if not title:
                first = self._db.execute(
                    "SELECT content FROM turns WHERE chat_id = ? AND position = 0", [chat_id]
                ).fetchone()
                row["title"] = title_of(first[0]) if first else ""
            return self._update(chat_id, owner, row)

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

    def save_settings(self, chat_id: str, owner: str | None, settings: Mapping[str, Any]) -> bool:
        """Keep what was chosen for a conversation.

        Returns:
            Whether the owner has this conversation.
        """
        with self._writing():
            return self._update(chat_id, owner, {"settings": _settings_text(settings)})

    def begin_reply(
        self, chat_id: str, owner: str | None, num_kept: int, prompt: str
    ) -> int | None:
        """Write down a question, and a reply that is to come, after the first `num_kept` turns.

        What stood behind those is deleted: a question edited or answered again.

        Args:
            chat_id: from `create`.
            owner: whose.
            num_kept: turns to keep.
            prompt: the user's message.

        Returns:
            The reply's position, for `link_run`; None where the owner has no such conversation.
        """
        now, prompt = _now(), storable(prompt)
        with self._writing():
            if not self._update(chat_id, owner, {"updated_at": now}):
                return None
            self._drop_turns(chat_id, num_kept)
            turn: dict[str, Any] = {"chat_id": chat_id, "created_at": now}
            question = turn | {"position": num_kept, "role": "user", "content": prompt}
            reply = turn | {"position": num_kept + 1, "role": "assistant", "content": None}
            self._db.table("turns").insert_all([question, reply])
            if num_kept == 0:
                self._db.execute(
                    "UPDATE chats SET title = ? WHERE id = ? AND NOT renamed",
                    [title_of(prompt), chat_id],
                )
        return num_kept + 1

    def link_run(self, chat_id: str, position: int, run_id: int, asked_at: datetime) -> None:
        """Say which run writes the reply at `position`.

        Args:
            chat_id: from `create`.
            position: from `begin_reply`.
            run_id: from `Store.start_run`.
            asked_at: `Turn.created_at` of its question: where another has taken the place while the
                run waited for the device, nothing happens.
        """
        with self._writing():
            self._db.execute(
                "UPDATE turns SET run_id = ? WHERE chat_id = ? AND position = ? "
                "AND created_at = ? AND content IS NULL AND run_id IS NULL",
                [run_id, chat_id, position, _text_of(asked_at)],
            )

    def truncate(self, chat_id: str, owner: str | None, num_kept: int) -> bool:
        """Delete all turns but the first `num_kept`.

        Returns:
            Whether the owner has this conversation.
        """
        with self._writing():
            found = self._update(chat_id, owner, {"updated_at": _now()})
            if found:
                self._drop_turns(chat_id, num_kept)
        return found

    def put_back(
        self, chat_id: str, owner: str | None, num_kept: int, turns: Sequence[Turn]
    ) -> bool:
        """Let turns that `begin_reply` has deleted stand behind the first `num_kept` again.

        Returns:
            Whether the owner has this conversation.
        """
        rows = [
            {
                "chat_id": chat_id,
                "position": position,
                "role": turn.role,
                "content": None if turn.lost else storable(turn.content),
                "run_id": turn.run_id,
                "finish_reason": turn.finish_reason,
                "created_at": _text_of(turn.created_at),
            }
            for position, turn in enumerate(turns, start=num_kept)
        ]
        with self._writing():
            found = self._update(chat_id, owner, {"updated_at": _now()})
            if found:
                self._drop_turns(chat_id, num_kept)
                self._db.table("turns").insert_all(rows)
        return found

    def _update(self, chat_id: str, owner: str | None, row: Mapping[str, Any]) -> bool:
        columns = ", ".join(f"{name} = ?" for name in row)
        changed = self._db.execute(
            f"UPDATE chats SET {columns} WHERE id = ? AND owner IS ?",  # noqa: S608
            [*row.values(), chat_id, owner],
        )
        return bool(changed.rowcount)

    def _drop_turns(self, chat_id: str, num_kept: int) -> None:
        self._db.execute(
            "DELETE FROM turns WHERE chat_id = ? AND position >= ?", [chat_id, num_kept]
        )


def take_replies(db: sqlite_utils.Database) -> None:
    """Copy the text of runs that have ended into the replies that wait for it.

    Call it in the transaction that ends, interrupts or deletes runs.
    """
    db.execute(_TAKE_REPLIES)


def _settings_text(settings: Mapping[str, Any]) -> str:
    return json.dumps(dict(settings))


def _now() -> str:
    return _text_of(datetime.now(UTC))


def _text_of(when: datetime) -> str:
    return when.isoformat(timespec="microseconds")
