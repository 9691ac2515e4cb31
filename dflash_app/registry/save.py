"""Add rows to the user's registry file and take them away; all else in it stays as it is.

The file is edited as text, so that comments stay, and is read again before it is replaced. Where
the edited text does not say what it should (a list in brackets), the file is written anew from its
values. A file with an error is left alone.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from dflash_app.errors import RegistryError
from dflash_app.registry.load import load_registry, row_nodes
from dflash_app.registry.pair import Pair
from dflash_app.registry.rows import MAX_FILE_BYTES, compose, plain, read_text

HEADING = "# Your own pairs, in the format of the app's model_registry.yaml.\npairs:\n"
INDENT = 2
"""Spaces before the dash of a file's first row."""


def append_pair(path: Path, pair: Pair) -> None:
    """Add a row at the end of a registry file; the file is made where there is none.

    Raises:
        RegistryError: the file has an error (file and line named), would grow too large, or cannot
            be written; it is as it was.
    """
    text = _checked_text(path)
    row = pair.model_dump(mode="json", exclude_defaults=True)
    nodes = row_nodes(path, compose(path, text))
    column = nodes[0].start_mark.column - INDENT if nodes else INDENT
    lines = _dump([row]).splitlines()
    added = "".join(f"{' ' * max(column, 0)}{line}\n" for line in lines)
    kept = text if not text or text.endswith("\n") else text + "\n"
    values = _values(path, text)
    heading = HEADING if values is None else ""
    _replace(path, kept + heading + added, [*(values or []), row])


def remove_pair(path: Path, name: str) -> None:
    """Take a row out of a registry file; comments above it stay.

    Raises:
        RegistryError: no such row, or as `append_pair`.
    """
    text = _checked_text(path)
    values = _values(path, text) or []
    index = next((i for i, row in enumerate(values) if row["name"] == name), None)
    if index is None:
        raise RegistryError(f"{path} has no pair {name!r}: `dflash-app pairs` lists all names.")
    lines = text.splitlines(keepends=True)
    starts = [_first_line(lines, node) for node in row_nodes(path, compose(path, text))]
    begin = starts[index]
    end = starts[index + 1] if index + 1 < len(starts) else len(lines)
    while end - 1 > begin and lines[end - 1].strip()[:1] in ("", "#"):
        end -= 1  # what is said above the next row belongs to it
    edited = "".join(lines[:begin] + lines[end:])
    _replace(path, edited, values[:index] + values[index + 1 :])


def _checked_text(path: Path) -> str:
    """The file's text, once it is known to be without error."""
    if not path.exists():
        return ""
    try:
        load_registry([path])
    except RegistryError as error:
        raise RegistryError(f"Nothing was saved: {error}") from error
    return read_text(path, optional=True)


def _values(path: Path, text: str) -> list[dict[str, Any]] | None:
    """The rows of a text as plain values; None where it has no `pairs` to add to."""
    document = compose(path, text)
    if document is None or not document.value:
        return None
    return [plain(path, node) for node in row_nodes(path, document)]


def _first_line(lines: Sequence[str], node: yaml.Node) -> int:
    """The line of a row's dash, which may stand above its first key."""
    line = node.start_mark.line
    while line > 0 and not lines[line].lstrip().startswith("-"):
        line -= 1
    return line


def _replace(path: Path, edited: str, rows: list[dict[str, Any]]) -> None:
    """Put the edited text in the file's place, or the rows written anew where it says otherwise."""
    try:
        found = _values(path, edited) or []
    except RegistryError:
        found = []
    if _dump(found) != _dump(rows):
        edited = HEADING + _dump(rows)
    data = edited.encode()
    if len(data) > MAX_FILE_BYTES:
        raise RegistryError(
            f"{path} would grow beyond {MAX_FILE_BYTES:,} bytes: remove a pair from it first."
        )
    place = path.resolve()  # a link stays a link
    new = place.with_name(f"{place.name}.{os.getpid()}.new")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(place)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        reason = error.strerror or type(error).__name__
        raise RegistryError(
            f"{path} cannot be written ({reason}): free space or correct its rights."
        ) from error


def _dump(rows: list[dict[str, Any]]) -> str:
    """Rows as YAML; tuples, as a file is read, and lists are the same."""
    if not rows:
        return ""
    return yaml.safe_dump(_lists(rows), sort_keys=False, allow_unicode=True, width=10**6)


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value
