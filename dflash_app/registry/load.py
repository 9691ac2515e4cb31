"""Registry files to pairs.

The bundled file must be right. In any other file a bad row becomes a problem that names file and
line, and the good rows stay.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dflash_app.errors import RegistryError, UnknownPair
from dflash_app.registry.pair import Pair
from dflash_app.registry.rows import Loc, compose, fault, find_line, plain, read_text


@dataclass(frozen=True, slots=True)
class Registry:
    """All known pairs.

    Attributes:
        bundled: the app's own, in the order of the file.
        user: everybody else's: the user's file, then plugins'.
        problems: rows that were left out, each naming its file and line.
        origins: where each pair is defined, by name: "FILE, line N".
        paths: the files that were read, to read them again.
        composed: pairs of one row's target and another's drafter, which `get` finds too.
    """

    bundled: tuple[Pair, ...]
    user: tuple[Pair, ...]
    problems: tuple[RegistryError, ...]
    origins: dict[str, str]
    paths: tuple[Path, ...] = ()
    composed: tuple[Pair, ...] = ()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The bundled pairs, then the others."""
        return self.bundled + self.user

    def get(self, name: str) -> Pair:
        """Find a pair by name.

        Raises:
            UnknownPair: with the names that come close.
        """
        for pair in (*self.pairs, *self.composed):
            if pair.name == name:
                return pair
        names = [pair.name for pair in self.pairs]
        close = difflib.get_close_matches(name[:80].lower(), names, n=3, cutoff=0.5)
        guess = f"did you mean {' or '.join(close)}? The" if close else "the"
        raise UnknownPair(
            f"No pair is called {name[:80]!r}: {guess} command `dflash-app pairs` lists them all."
        )

    def with_trained_for(self, pair: Pair) -> Pair:
        """The pair, saying whose drafter it borrows where the app's own rows know it.

        A drafter that a row of the app gives to another target was trained for that one.
        """
        drafter = pair.drafter
        if drafter is None or pair.trained_for is not None or pair in self.bundled:
            return pair
        known = [
            row.target.repo
            for row in self.bundled
            if row.drafter is not None and row.drafter.source == drafter.source and row.target.repo
        ]
        if not known or pair.target.source in known:
            return pair
        return pair.model_copy(update={"trained_for": known[0]})


def load_registry(paths: Sequence[Path]) -> Registry:
    """Read registry files.

    Args:
        paths: the bundled file first, then others; others may be absent.

    Returns:
        The registry, whose `problems` hold the bad rows of all files but the first.

    Raises:
        RegistryError: the bundled file is missing or has a bad row (its first one is named).
    """
    origins: dict[str, str] = {}
    problems: list[RegistryError] = []
    bundled = _load_file(paths[0], False, origins, problems)
    if problems:
        raise problems[0]
    user: list[Pair] = []
    for path in paths[1:]:
        user += _load_file(path, True, origins, problems)
    return Registry(tuple(bundled), tuple(user), tuple(problems), origins, tuple(paths))


def _load_file(
    path: Path, optional: bool, origins: dict[str, str], problems: list[RegistryError]
) -> list[Pair]:
    """The good rows of a file; adds to `origins` and `problems`."""
    pairs: list[Pair] = []
    try:
        rows = row_nodes(path, compose(path, read_text(path, optional=optional)))
    except RegistryError as error:
        problems.append(error)
        return pairs
    for row in rows:
        try:
            pair = _load_row(path, row)
            line = find_line(row, ("name",))
            if pair.name in origins:
                raise fault(path, line, _taken(pair.name, origins))
        except RegistryError as error:
            problems.append(error)
        else:
            origins[pair.name] = f"{path}, line {line}"
            pairs.append(pair)
    return pairs


def row_nodes(path: Path, document: yaml.Node | None) -> list[yaml.Node]:
    """The nodes under the file's one key, `pairs`."""
    if document is None:
        return []
    if not isinstance(document, yaml.MappingNode):
        raise fault(path, document.start_mark.line + 1, "the file must begin with 'pairs:'")
    rows: list[yaml.Node] = []
    keys: set[str] = set()
    for key, value in document.value:
        line = key.start_mark.line + 1
        if key.value != "pairs" or key.value in keys:
            raise fault(path, line, "the file has one key, 'pairs': remove any other")
        keys.add(key.value)
        if isinstance(value, yaml.SequenceNode):
            rows = value.value
        elif value.tag != "tag:yaml.org,2002:null":
            raise fault(path, line, "'pairs' must be a list: begin each pair with '- name:'")
    return rows


def _load_row(path: Path, row: yaml.Node) -> Pair:
    values = plain(path, row)
    if not isinstance(values, dict):
        raise fault(path, row.start_mark.line + 1, "a pair must begin with '- name:'")
    try:
        return Pair.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        first, more = details[0], len(details) - 1
        name = values.get("name")
        who = f"pair {name[:64]!r}, " if isinstance(name, str) else ""
        rest = f" (and {more} more in this pair)" if more else ""
        raise fault(path, find_line(row, first["loc"]), f"{who}{explain(first)}{rest}") from error


def explain(detail: ErrorDetails) -> str:
    """A pydantic error in words that name the key and the cure."""
    loc: Loc = detail["loc"]
    key = ".".join(str(step) for step in loc) or "the row"
    if detail["type"] == "missing":
        return f"{key} is missing: add it"
    if detail["type"] == "extra_forbidden":
        return f"{key} is no known key: correct or remove it"
    if detail["type"] == "value_error":
        return f"{key}: {detail['ctx']['error']}"
    return (
        f"{key}: {detail['msg'][0].lower()}{detail['msg'][1:]}, not {str(detail['input'])[:60]!r}"
    )


def _taken(name: str, origins: dict[str, str]) -> str:
    return f"the name {name!r} is already taken in {origins[name]}: choose another"
