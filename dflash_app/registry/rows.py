"""YAML text to plain values and their lines.

Nothing in a file can run code or grow: no tags of other types, no aliases, no deep nesting, no key
twice, a limit of size.
"""

from pathlib import Path
from typing import Any, TypeAlias

import yaml
from yaml.constructor import SafeConstructor

from dflash_app.errors import RegistryError

MAX_FILE_BYTES = 1_000_000
MAX_DEPTH = 20

SCALAR_TAGS = ("str", "int", "float", "bool", "null")

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Loc: TypeAlias = tuple[str | int, ...]


def fault(path: Path, line: int, text: str) -> RegistryError:
    """The error that names file and line (counted from 1)."""
    return RegistryError(f"{path}, line {line}: {text}.")


def read_text(path: Path, *, optional: bool) -> str:
    """Read a registry file; an optional one that is absent reads as empty.

    Raises:
        RegistryError: missing, unreadable, too large or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError):
            return ""
        reason = error.strerror or type(error).__name__
        raise RegistryError(
            f"{path} cannot be read ({reason}): check that the file exists and is readable."
        ) from error
    if len(data) > MAX_FILE_BYTES:
        limit = f"{MAX_FILE_BYTES:,} bytes"
        raise fault(path, data.count(b"\n") + 1, f"the file is larger than {limit}: shorten it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise fault(path, line, "not UTF-8 text: save the file as UTF-8") from error


def compose(path: Path, text: str) -> yaml.Node | None:
    """Parse YAML into nodes with marks; None for an empty document.

    Raises:
        RegistryError: not YAML, several documents, an alias, or nested too deep.
    """
    try:
        _check_events(path, text)
        loader = Loader(text)
        try:
            node: yaml.Node | None = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise fault(path, line, f"not valid YAML ({error.problem}): correct the line") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise fault(path, line, f"not valid YAML ({error.reason}): remove it") from error
    return node


def _check_events(path: Path, text: str) -> None:
    """Refuse what the recursive composer must not see; the event parser itself is iterative."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise fault(path, line, "aliases (*name) are not allowed: write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise fault(path, line, f"nested deeper than {MAX_DEPTH} levels: flatten it")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def plain(path: Path, node: yaml.Node) -> Any:
    """Turn a node into dicts with text keys, tuples and scalars.

    Raises:
        RegistryError: a tag of another type, a key twice, or a value its tag does not allow.
    """
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        return _mapping(path, node)
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return tuple(plain(path, item) for item in node.value)
    if not isinstance(node, yaml.ScalarNode):
        raise fault(path, line, f"the tag {node.tag[:60]!r} is not allowed: remove it")
    if node.tag.removeprefix("tag:yaml.org,2002:") not in SCALAR_TAGS:
        raise fault(path, line, f"{node.tag[:60]!r} is not allowed: remove the tag or use quotes")
    try:
        return SafeConstructor().construct_object(node)
    except (ValueError, LookupError) as error:
        raise fault(path, line, f"{node.value[:60]!r} is no valid value: correct it") from error


def _mapping(path: Path, node: yaml.MappingNode) -> dict[str, Any]:
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = plain(path, key_node)
        if not isinstance(key, str):
            raise fault(path, line, f"the key {str(key)[:60]!r} is not text: put it in quotes")
        if key in values:
            first = lines[key]
            raise fault(path, line, f"the key {key[:60]!r} is here and on line {first}: remove one")
        values[key], lines[key] = plain(path, value_node), line
    return values


def find_line(node: yaml.Node, loc: Loc) -> int:
    """The line (from 1) of the value at `loc`, or of the closest parent that is in the file."""
    line = node.start_mark.line + 1
    for step in loc:
        below = _child(node, step)
        if below is None:
            break
        line, node = below
    return line


def _child(node: yaml.Node, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item.start_mark.line + 1, item
    return None
