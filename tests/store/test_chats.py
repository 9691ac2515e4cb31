import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from dflash_app.errors import StoreCorrupt
from dflash_app.metrics import RunMetrics
from dflash_app.store.records import RunStart
from dflash_app.store.runs import Store

FIGURES = RunMetrics(
    num_output_tokens=9, num_steps=2, ttft_s=0.5, decode_tok_s=32.0, mean_acceptance_length=4.0
)


def ask(
    store: Store, chat_id: str, prompt: str, *, at: int = 0, owner: str | None = None
) -> datetime:
    asked_at = store.chats.begin_reply(chat_id, owner, at, prompt)
    assert asked_at is not None
    return asked_at


def answer(store: Store, start: RunStart, chat_id: str, asked_at: datetime, text: str) -> int:
    """A run that writes the reply to the question of `asked_at`."""
    run_id = store.start_run(start)
    store.chats.link_run(chat_id, run_id, asked_at)
    store.finish_run(run_id, "stop", output=text, token_ids=[], metrics=FIGURES)
    return run_id


def contents(store: Store, chat_id: str, owner: str | None = None) -> list[str]:
    chat = store.chats.load(chat_id, owner)
    assert chat is not None
    return [turn.content for turn in chat.turns]


def told(store: Store, start: RunStart, *pairs: tuple[str, str], owner: str | None = None) -> str:
    """A conversation of these questions and replies."""
    chat_id = store.chats.create(owner)
    for number, (question, reply) in enumerate(pairs):
        asked_at = ask(store, chat_id, question, at=2 * number, owner=owner)
        answer(store, start, chat_id, asked_at, reply)
    return chat_id


def test_a_conversation_reads_back_with_the_figures_of_its_replies(
    store: Store, start: RunStart
) -> None:
    chat_id = store.chats.create(None, {"temperature": 0.7})
    run_id = answer(store, start, chat_id, ask(store, chat_id, " How \n many? "), "Nine.")
    chat = store.chats.load(chat_id, None)
    assert chat is not None
    assert (chat.head.title, chat.settings) == ("How many?", {"temperature": 0.7})
    question, reply = chat.turns
    assert (question.role, question.content, question.run_id) == ("user", " How \n many? ", None)
    assert (reply.content, reply.run_id, reply.finish_reason) == ("Nine.", run_id, "stop")
    assert reply.figures is not None
    assert (reply.figures.pair, reply.figures.mode) == (start.pair, start.mode)
    assert reply.figures.decode_tok_s == FIGURES.decode_tok_s
    assert reply.figures.ttft_s == FIGURES.ttft_s
    assert reply.figures.mean_acceptance_length == FIGURES.mean_acceptance_length
    assert reply.figures.num_output_tokens == FIGURES.num_output_tokens
    assert not any(turn.cut for turn in chat.turns)


def test_a_reply_under_way_shows_what_its_run_has_saved(store: Store, start: RunStart) -> None:
    chat_id = store.chats.create(None)
    asked_at = ask(store, chat_id, "Go")
    assert contents(store, chat_id) == ["Go", ""]
    run_id = store.start_run(start)
    store.chats.link_run(chat_id, run_id, asked_at)
    store.save_progress(run_id, "So f", [1])
    chat = store.chats.load(chat_id, None)
    assert chat is not None
    assert (chat.turns[1].content, chat.turns[1].finish_reason) == ("So f", None)
    assert not chat.turns[1].cut


def test_a_reply_that_a_crash_cut_is_kept_and_marked(database: Path, start: RunStart) -> None:
    with Store(database) as crashing:
        chat_id = crashing.chats.create(None)
        run_id = crashing.start_run(start)
        crashing.chats.link_run(chat_id, run_id, ask(crashing, chat_id, "Go"))
        crashing.save_progress(run_id, "Half a rep", [1])
        asked_only = crashing.chats.create(None)
        ask(crashing, asked_only, "Waiting for the device")
    with Store(database) as store:
        for _ in ("with its run", "without"):
            chat = store.chats.load(chat_id, None)
            assert chat is not None
            assert (chat.turns[1].content, chat.turns[1].cut) == ("Half a rep", True)
            store.delete_runs([run_id])
        never_begun = store.chats.load(asked_only, None)
        assert never_begun is not None
        assert (never_begun.turns[1].content, never_begun.turns[1].cut) == ("", True)


def test_deleting_runs_takes_no_text_out_of_a_conversation(store: Store, start: RunStart) -> None:
    chat_id = store.chats.create(None)
    run_id = answer(store, start, chat_id, ask(store, chat_id, "Go"), "Gone?")
    assert store.delete_runs([run_id]) == 1
    chat = store.chats.load(chat_id, None)
    assert chat is not None
    assert (chat.turns[1].content, chat.turns[1].figures) == ("Gone?", None)


def test_what_belongs_to_another_owner_is_not_there(store: Store, start: RunStart) -> None:
    chats, mine = store.chats, store.chats.create("me")
    asked_at = ask(store, mine, "Mine", owner="me")
    answer(store, start, mine, asked_at, "Yes")
    for other in ("you", None, "' OR 1 --"):
        assert chats.load(mine, other) is None
        assert chats.list_heads(other) == []
        assert chats.list_heads(other, text="Mine") == []
        assert not chats.rename(mine, other, "Taken")
        assert not chats.delete(mine, other)
        assert chats.begin_reply(mine, other, 0, "Mixed up", settings={"seed": 2}) is None
        assert not chats.withdraw(mine, other, asked_at)
        assert not chats.put_back(mine, other, 0, ())
        assert chats.title(mine, other) is None
    chat = chats.load(mine, "me")
    assert chat is not None
    assert (chat.head.title, chat.settings) == ("Mine", {})
    assert contents(store, mine, "me") == ["Mine", "Yes"]


def test_conversations_are_listed_by_the_last_message(store: Store, start: RunStart) -> None:
    first, second = (told(store, start, (name, "ok")) for name in ("First", "Second"))
    store.chats.create(None)  # nobody has written in it
    assert [head.title for head in store.chats.list_heads(None)] == ["Second", "First"]
    ask(store, first, "More", at=2)
    assert [head.id for head in store.chats.list_heads(None)] == [first, second]
    assert [head.id for head in store.chats.list_heads(None, limit=1)] == [first]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("EULER", {"a"}),
        ("100%", {"b"}),
        ("_", set()),
        ("half", {"a", "b"}),
        ("\ud83d", {"a"}),  # half a pair is kept and looked for as "?"
        ("数学", {"b"}),
        ("x' OR 1 --", set()),
    ],
)
def test_search_finds_text_in_titles_questions_and_replies(
    store: Store, start: RunStart, text: str, expected: set[str]
) -> None:
    told(store, start, ("a: who was Euler?", "no"), ("and half?", "no"))
    named = told(store, start, ("b", "no"), ("again", "100% of a half"))
    store.chats.rename(named, None, "b 数学")
    assert {head.title[0] for head in store.chats.list_heads(None, text=text)} == expected


def test_a_title_is_the_first_message_until_it_is_renamed(store: Store, start: RunStart) -> None:
    chat_id = told(store, start, ("word " * 50, "ok"))

    def title() -> str:
        (head,) = store.chats.list_heads(None)
        return head.title

    assert title().startswith("word word")
    assert title().endswith("word…")
    assert len(title()) <= 80
    assert store.chats.rename(chat_id, None, "  My \n own \ud83d ")
    assert title() == "My own ?"
    ask(store, chat_id, "Edited")
    assert title() == "My own ?"
    assert store.chats.rename(chat_id, None, " ")
    assert title() == "Edited"
    ask(store, chat_id, "Once more")
    assert title() == "Once more"


def test_deleting_a_conversation_leaves_its_runs_and_the_others(
    store: Store, start: RunStart, database: Path
) -> None:
    gone, kept = (told(store, start, (name, name)) for name in ("gone", "kept"))
    assert store.chats.delete(gone, None)
    assert not store.chats.delete(gone, None)
    assert store.chats.load(gone, None) is None
    assert contents(store, kept) == ["kept", "kept"]
    assert store.count_runs() == 2
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT DISTINCT chat_id FROM turns").fetchall() == [(kept,)]


def test_asking_again_replaces_what_stood_behind(store: Store, start: RunStart) -> None:
    chat_id = told(store, start, ("a", "1"), ("b", "2"), ("c", "3"))
    answer(store, start, chat_id, ask(store, chat_id, "B", at=2), "two")
    assert contents(store, chat_id) == ["a", "1", "B", "two"]


def test_a_question_in_the_middle_goes_with_its_reply_and_nothing_else(
    store: Store, start: RunStart
) -> None:
    chat_id = store.chats.create(None)
    asked = [ask(store, chat_id, name, at=2 * at) for at, name in enumerate("abcd")]
    waiting = store.start_run(start)
    for asked_at in asked[:3]:
        answer(store, start, chat_id, asked_at, "ok")
    assert store.chats.withdraw(chat_id, None, asked[1])
    assert not store.chats.withdraw(chat_id, None, asked[1])
    assert store.chats.withdraw(chat_id, None, asked[0])
    store.chats.link_run(chat_id, waiting, asked[3])  # it had another place when it was asked
    store.finish_run(waiting, "stop", output="late", token_ids=[], metrics=FIGURES)
    assert contents(store, chat_id) == ["c", "ok", "d", "late"]
    (head,) = store.chats.list_heads(None)
    assert head.title == "c"


def test_turns_that_a_question_replaced_come_back_before_what_was_asked_since(
    store: Store, start: RunStart
) -> None:
    chat_id = told(store, start, ("a", "1"), ("b", "2"))
    before = store.chats.load(chat_id, None)
    assert before is not None
    edited = ask(store, chat_id, "A")
    answer(store, start, chat_id, ask(store, chat_id, "c", at=2), "3")
    assert store.chats.withdraw(chat_id, None, edited, before.turns)
    assert contents(store, chat_id) == ["a", "1", "b", "2", "c", "3"]


def test_a_reply_replaced_while_its_run_went_on_is_not_overwritten(
    store: Store, start: RunStart
) -> None:
    chat_id = store.chats.create(None)
    slow = store.start_run(start)
    store.chats.link_run(chat_id, slow, ask(store, chat_id, "First try"))
    answer(store, start, chat_id, ask(store, chat_id, "Second try"), "Right")
    store.finish_run(slow, "cancelled", output="Late", token_ids=[], metrics=FIGURES)
    assert contents(store, chat_id) == ["Second try", "Right"]


def test_a_run_that_begins_after_its_question_was_replaced_takes_no_other_reply(
    store: Store, start: RunStart
) -> None:
    chat_id = store.chats.create(None)
    waited = ask(store, chat_id, "Waits for the device")
    anew = ask(store, chat_id, "Asked anew")
    late, right = store.start_run(start), store.start_run(start)
    store.chats.link_run(chat_id, late, waited)
    store.chats.link_run(chat_id, right, anew)
    store.finish_run(late, "cancelled", output="Late", token_ids=[], metrics=FIGURES)
    store.finish_run(right, "stop", output="Right", token_ids=[], metrics=FIGURES)
    assert contents(store, chat_id) == ["Asked anew", "Right"]


@pytest.mark.parametrize("text", ["half \ud800", "nul \0", "👩‍👩‍👧 مرحبا", "<b>${x}</b>"])
def test_any_text_can_be_kept(store: Store, start: RunStart, text: str) -> None:
    chat_id = store.chats.create(None)
    asked_at = store.chats.begin_reply(chat_id, None, 0, text, settings={"system": text})
    assert asked_at is not None
    answer(store, start, chat_id, asked_at, text)
    expected = text.replace("\ud800", "?")
    assert contents(store, chat_id) == [expected, expected]
    chat = store.chats.load(chat_id, None)
    assert chat is not None
    assert chat.settings == {"system": text}


@pytest.mark.parametrize(
    "damage",
    ["UPDATE chats SET settings = '{'", "UPDATE turns SET created_at = 'x' WHERE position = 1"],
)
def test_a_damaged_conversation_is_named(
    store: Store, start: RunStart, database: Path, damage: str
) -> None:
    chat_id = told(store, start, ("a", "b"))
    with closing(sqlite3.connect(database)) as db:
        db.execute(damage)
        db.commit()
    with pytest.raises(StoreCorrupt, match=rf"conversation {chat_id} is damaged \(.*\): delete it"):
        store.chats.load(chat_id, None)


def test_conversations_survive_closing_and_opening(database: Path, start: RunStart) -> None:
    with Store(database) as first:
        chat_id = told(first, start, ("a", "b"))
    with Store(database) as second:
        assert contents(second, chat_id) == ["a", "b"]


def test_a_damaged_row_is_listed_as_such_and_hides_no_other(
    store: Store, start: RunStart, database: Path
) -> None:
    damaged, _ = (told(store, start, (name, "ok")) for name in ("Damaged", "Whole"))
    with closing(sqlite3.connect(database)) as db:
        db.execute("UPDATE chats SET updated_at = '?' WHERE id = ?", [damaged])
        db.commit()
    heads = {head.title: head.damaged for head in store.chats.list_heads(None)}
    assert heads == {"Damaged": True, "Whole": False}
    assert store.chats.delete(damaged, None)
