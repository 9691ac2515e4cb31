"""A conversation as a file: Markdown to read, JSON for programs."""

import json
import re
from dataclasses import asdict
from pathlib import Path

from dflash_app.store.chat_records import Chat
from dflash_app.ui.chat_bubbles import render_foot
from dflash_app.ui.format import format_excerpt, format_when
from dflash_app.ui.language import Texts

_texts = Texts.load("export", Path(__file__).with_name("texts") / "export.yaml")

FORMAT = "dflash-app chat 1"
_MAX_NAME_CHARS = 60

SAVE_FILE = """(name, content) => {
    if (name) {
        const type = name.endsWith(".json") ? "application/json" : "text/markdown";
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([content], {type}));
        link.download = name;
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    }
    return ["", ""];
}"""
"""Lets the browser make the file, which then takes no room on the server."""


def to_markdown(chat: Chat) -> str:
    """Title, then each message under who said it, as it was written."""
    parts = [f"# {_title(chat)}", format_when(chat.head.created_at)]
    for turn in chat.turns:
        parts += [f"## {_texts.say(turn.role)}", turn.content]
        foot = render_foot(turn) if turn.role == "assistant" else ""
        if foot:
            parts.append(f"*{foot}*")
    return "\n\n".join(parts) + "\n"


def to_json(chat: Chat) -> str:
    """All that is kept of the conversation; the format is named in it."""
    head = chat.head
    turns = [asdict(turn) | {"created_at": turn.created_at.isoformat()} for turn in chat.turns]
    content = {
        "format": FORMAT,
        "id": head.id,
        "title": head.title,
        "created_at": head.created_at.isoformat(),
        "updated_at": head.updated_at.isoformat(),
        "settings": chat.settings,
        "turns": turns,
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def file_name(chat: Chat, ending: str) -> str:
    """A name that every file system takes: the title's letters and digits.

    Args:
        chat: whose title.
        ending: with its dot.
    """
    words = re.findall(r"\w+", _title(chat))
    return "-".join(words)[:_MAX_NAME_CHARS] + ending if words else f"chat{ending}"


def _title(chat: Chat) -> str:
    return format_excerpt(chat.head.title) or _texts.say("untitled")
