"""Questions from a JSONL file: the bundled set's, and a user's own.

A line is `{"prompt": "..."}`, `{"turns": ["...", "..."]}` or `{"messages": [{"role": ...,
"content": ...}, ...]}`, and may have an "id" (else its line's number), a "system" message and an
"answer", which is that of the last turn. Of messages, the system's and the user's are taken: the
assistant's are left out, as the model gives its own. Other keys are not looked at.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dflash_app.errors import RequestError
from dflash_app.hookspecs import Question
from dflash_app.request import MAX_PROMPT_CHARS

MAX_FILE_BYTES = 64_000_000
MAX_QUESTIONS = 100_000
MAX_TURNS = 100

BUNDLED = Path(__file__).with_name("bundled.jsonl")


def load_bundled() -> list[Question]:
    """28 prompts that the embedded pair was not trained on, three of them with several turns."""
    return read_jsonl(BUNDLED)


def read_jsonl(path: Path) -> list[Question]:
    """Read every question of a file.

    Raises:
        RequestError: the file cannot be read, is too large, asks nothing, or has a line (named by
            its number) that is no question.
    """
    try:
        if not path.is_file():
            raise RequestError(f"{path} is no file: name a .jsonl file.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RequestError(f"{path} is larger than {MAX_FILE_BYTES / 1e6:.0f} MB: split it.")
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(
            f"{path} cannot be read ({error.strerror}): check its rights."
        ) from error
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for number, line in _lines(data):
        try:
            question = _read_question(line, number)
        except RequestError as error:
            raise RequestError(f"{path.name}, line {number}: {error}") from error
        if question.id in seen:
            raise RequestError(
                f"{path.name}, line {number}: line {seen[question.id]} has the id "
                f"{question.id!r} already: give each its own."
            )
        seen[question.id] = number
        questions.append(question)
        if len(questions) > MAX_QUESTIONS:
            raise RequestError(f"{path.name} asks more than {MAX_QUESTIONS:,} questions: split it.")
    if not questions:
        raise RequestError(f"{path.name} asks no question: give it at least one line.")
    return questions


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, line) of each line that is not blank. Only a line feed ends a line of JSONL."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _read_question(line: bytes, number: int) -> Question:
    row = _parse(line)
    turns, system = _turns(row)
    answer = row.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    num_chars = sum(map(len, turns)) + len(system or "")
    if len(turns) > MAX_TURNS or num_chars > MAX_PROMPT_CHARS:
        raise RequestError(
            f"it has {len(turns):,} turns and {num_chars:,} characters, at most {MAX_TURNS} and "
            f"{MAX_PROMPT_CHARS:,} are taken: shorten it."
        )
    return Question(
        id=_id(row, number),
        turns=tuple(turns),
        system=system or None,
        answer=None if answer is None else _text(answer, "answer"),
    )


def _parse(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RequestError("it is not UTF-8: save the file as UTF-8.") from error
    except (ValueError, RecursionError) as error:  # ValueError: also of a number of 4,300 digits
        raise RequestError(f"it is not JSON ({error}): correct it.") from error
    if not isinstance(row, dict):
        raise RequestError('it is no object: write {"prompt": "..."}.')
    return row


def _turns(row: dict[str, Any]) -> tuple[list[str], str | None]:
    """The user's turns and the system message."""
    given = [name for name in ("prompt", "turns", "messages") if row.get(name) is not None]
    if len(given) != 1:
        raise RequestError('it needs exactly one of "prompt", "turns" and "messages".')
    system = None if row.get("system") is None else _text(row["system"], "system")
    if given == ["prompt"]:
        return [_text(row["prompt"], "prompt")], system
    items = row[given[0]]
    if not isinstance(items, list) or not items:
        raise RequestError(f'"{given[0]}" must be a list with at least one item.')
    if given == ["turns"]:
        return [_text(turn, "turns") for turn in items], system
    return _messages(items, system)


def _messages(items: list[Any], system: str | None) -> tuple[list[str], str | None]:
    turns: list[str] = []
    for item in items:
        role = item.get("role") if isinstance(item, dict) else None
        if role not in ("system", "user", "assistant"):
            raise RequestError('a message needs a "role": "system", "user" or "assistant".')
        content = _text(item.get("content"), "content")
        if role == "user":
            turns.append(content)
        elif role == "system":
            if system is not None or turns:
                raise RequestError("a system message must be the only one, and come first.")
            system = content
    return turns, system


def _id(row: dict[str, Any], number: int) -> str:
    given = row.get("id")
    if given is None:
        return str(number)
    if not isinstance(given, str | int) or isinstance(given, bool) or len(str(given)) > 200:
        raise RequestError('"id" must be a number or a text of at most 200 characters.')
    return str(given)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise RequestError(f'"{name}" must be text.')
    return value
