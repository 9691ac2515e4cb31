"""Questions from JSONL: the bundled ones, a user's own, and how each broken line is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from dflash_plugins.benchmark import jsonl
from dflash_plugins.benchmark.jsonl import load_bundled, read_jsonl

from dflash_app.errors import RequestError
from dflash_app.hookspecs import Question
from recipes.embedded_pair.config import FULL
from recipes.embedded_pair.dialogue import held_out_tasks
from recipes.embedded_pair.numeric import DEMONSTRATION_NUMBER


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "own.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def test_prompts_turns_and_messages_are_questions(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "left out"},
        {"role": "user", "content": "Bye"},
    ]
    path = write(
        tmp_path,
        {"prompt": "One?", "answer": 4.5, "other": None},
        "",
        {"turns": ["Two?", "Three?"], "id": 7, "system": "Be kind.", "answer": "yes"},
        {"messages": messages, "id": "m"},
    )
    assert read_jsonl(path) == [
        Question("1", ("One?",), answer="4.5"),
        Question("7", ("Two?", "Three?"), system="Be kind.", answer="yes"),
        Question("m", ("Hi", "Bye"), system="Be brief."),
    ]


def test_only_a_line_feed_ends_a_line_and_a_byte_order_mark_is_none(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes('\ufeff{"prompt": "a\u2028b"}\r\n{"prompt": "c"}\r\n'.encode())
    assert [question.turns for question in read_jsonl(path)] == [("a\u2028b",), ("c",)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", r"it is not JSON \("),
        ("[" * 100_000, r"it is not JSON \("),
        ('"text"', "it is no object"),
        ("{}", 'exactly one of "prompt", "turns" and "messages"'),
        ({"prompt": "a", "turns": ["b"]}, "exactly one of"),
        ({"prompt": 1}, '"prompt" must be text'),
        ('{"prompt": "a", "answer": ' + "9" * 5000 + "}", "it is not JSON"),
        ('{"prompt": ' + "[" * 100_000, "it is not JSON"),
        ('{"prompt": "a"}\x00', "it is not JSON"),
        ({"prompt": " "}, "asks nothing in a turn"),
        ({"turns": []}, '"turns" must be a list with at least one item'),
        ({"turns": "ab"}, '"turns" must be a list'),
        ({"turns": ["a", None]}, '"turns" must be text'),
        ({"turns": ["a"] * 101}, "101 turns"),
        ({"messages": ["a"]}, 'a message needs a "role"'),
        ({"messages": [{"role": "tool", "content": "a"}]}, 'a message needs a "role"'),
        ({"messages": [{"role": "user"}]}, '"content" must be text'),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "asks nothing"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]},
            "a system message must be the only one, and come first",
        ),
        ({"prompt": "a", "id": ["b"]}, '"id" must be a number or a text'),
        ({"prompt": "a", "id": "b" * 201}, "at most 200 characters"),
        ({"prompt": "a", "answer": ["b"]}, '"answer" must be text'),
        ({"prompt": "a" * 400_001}, "400,001 characters"),
        ({"prompt": "a", "id": 1}, "line 1 has the id '1' already"),
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, line: Any, reason: str) -> None:
    path = write(tmp_path, {"prompt": "fine"}, "", line)
    with pytest.raises(RequestError, match=rf"^own\.jsonl, line 3: .*{reason}"):
        read_jsonl(path)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes(b'{"prompt": "fine"}\n{"prompt": "\xff"}')
    with pytest.raises(RequestError, match=r"line 2: it is not UTF-8"):
        read_jsonl(path)


def test_a_file_without_a_question_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"own\.jsonl asks no question"):
        read_jsonl(write(tmp_path, "", "  "))


def test_what_is_no_file_or_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path, tmp_path / "absent.jsonl"):
        with pytest.raises(RequestError, match="is no file"):
            read_jsonl(path)
    path = write(tmp_path, {"prompt": "a"}, {"prompt": "b"})
    monkeypatch.setattr(jsonl, "MAX_QUESTIONS", 1)
    with pytest.raises(RequestError, match="asks more than 1 questions"):
        read_jsonl(path)
    monkeypatch.setattr(jsonl, "MAX_FILE_BYTES", 10)
    with pytest.raises(RequestError, match="is larger than"):
        read_jsonl(path)


def test_the_bundled_set_was_held_out_of_the_embedded_pairs_training() -> None:
    tasks = held_out_tasks(FULL.seed, FULL.num_held_out)
    held_out = {task.prompt for task in tasks}
    held_out |= {task.follow_up.prompt for task in tasks if task.follow_up}
    held_out.add(f"How many positive whole-number divisors does {DEMONSTRATION_NUMBER} have?")
    questions = load_bundled()
    assert 24 <= len(questions) <= 32
    assert {turn for question in questions for turn in question.turns} <= held_out
    assert sum(len(question.turns) > 1 for question in questions) == 3


def test_the_bundled_answers_are_the_recipes_own() -> None:
    answers = {task.prompt: task.answer for task in held_out_tasks(FULL.seed, FULL.num_held_out)}
    single = [question for question in load_bundled() if len(question.turns) == 1]
    graded = {q.turns[0]: q.answer for q in single if q.answer and q.turns[0] in answers}
    assert len(graded) >= 20
    assert graded.items() <= answers.items()
