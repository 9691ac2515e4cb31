"""A conversation as a file holds what was written, in a form that can be read back."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dflash_app.store.chat_records import Chat, ChatHead, ReplyFigures, Turn
from dflash_app.ui.chat_export import FORMAT, file_name, to_json, to_markdown

WHEN = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIGURES = ReplyFigures("embedded", "dflash", 131, 412.4, 0.084, 6.57)
CHAT = Chat(
    ChatHead("0" * 32, "Divisors: 196/7?", WHEN, WHEN),
    (
        Turn("user", "How <b>many</b>?", WHEN),
        Turn("assistant", "```py\n\tx\n```\nNine.", WHEN, 7, "cancelled", FIGURES),
    ),
    {"temperature": 0.5},
)


def test_markdown_holds_each_message_as_written_with_its_figures() -> None:
    text = to_markdown(CHAT)
    assert text.startswith("# Divisors: 196/7?\n")
    assert "## You\n\nHow <b>many</b>?\n\n## Assistant\n\n```py\n\tx\n```\nNine.\n\n*412" in text
    assert text.endswith("embedded · stopped*\n")


def test_json_holds_everything_and_names_its_format() -> None:
    content = json.loads(to_json(CHAT))
    assert content["format"] == FORMAT
    assert (content["title"], content["settings"]) == (CHAT.head.title, {"temperature": 0.5})
    question, reply = content["turns"]
    assert (question["role"], question["content"]) == ("user", "How <b>many</b>?")
    assert (reply["run_id"], reply["finish_reason"]) == (7, "cancelled")
    assert reply["figures"]["mean_acceptance_length"] == 6.57
    assert datetime.fromisoformat(reply["created_at"]) == WHEN


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Divisors: 196/7?", "Divisors-196-7.md"),
        ("../../etc/passwd", "etc-passwd.md"),
        ("数学 题", "数学-题.md"),
        ("", "Conversation.md"),
        ("???", "chat.md"),
        ("x" * 200, "x" * 60 + ".md"),
    ],
)
def test_a_file_is_named_after_the_title_by_its_letters(title: str, name: str) -> None:
    named = replace(CHAT, head=replace(CHAT.head, title=title))
    assert file_name(named, ".md") == name
