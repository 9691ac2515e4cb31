"""What a plugin may add. The whole boundary: docs/plugin-hooks.md shows an example of each.

A plugin is a module whose functions carry `@hookimpl` and the name of a hook below. It should be
light to import: torch, transformers and gradio belong inside the functions that need them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from dflash_app.engine.protocol import Backend
from dflash_app.errors import RequestError

if TYPE_CHECKING:
    import typer

PROJECT = "dflash_app"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class Tab:
    """A tab of the page.

    Attributes:
        title: the label in English, unique on the page, which its element ids are made of.
        order: tabs stand in this order; built-ins use 0, 10, 20, ...
        build: "pkg.mod:function", imported when the page is built.
        titles: the label in other languages, by their code ("zh").
    """

    title: str
    order: int
    build: str
    titles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """One conversation to measure on. The model's own replies stand between its turns.

    Attributes:
        id: unique in its set, and the same every time the set is loaded.
        turns: what the user says, one after the other.
        system: said before the first turn, if anything is.
        answer: what a right reply to the last turn comes to; None where that cannot be told.

    Raises:
        RequestError: it has no id, no turn, or a blank one.
    """

    id: str
    turns: tuple[str, ...]
    system: str | None = None
    answer: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise RequestError("A question has no id: give it one.")
        if not self.turns or not all(turn.strip() for turn in self.turns):
            raise RequestError(f"Question {self.id!r} asks nothing in a turn: give it a text.")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A named set of conversations to measure on.

    Attributes:
        name: unique, as typed on a command line ("gsm8k").
        description: one line: what is in it, where it comes from, its licence.
        load: "pkg.mod:function"; called without arguments when the set is used, it returns an
            iterable of `Question`.
        grade: "pkg.mod:function"; called with a reply and the question's answer, it returns
            whether the reply is right. None compares the answer that the reply marks with bold or
            a box, or all of it, with the answer, word for word.
    """

    name: str
    description: str
    load: str
    grade: str | None = None


@hookspec
def register_backends() -> list[Backend[Any]]:  # type: ignore[empty-body]
    """Add ways to load pairs."""


@hookspec
def register_pairs() -> list[Path]:  # type: ignore[empty-body]
    """Add registry files, in the format of model_registry.yaml."""


@hookspec
def register_tabs() -> list[Tab]:  # type: ignore[empty-body]
    """Add tabs to the page."""


@hookspec
def register_commands(app: "typer.Typer") -> None:
    """Add commands to `dflash-app`.

    Args:
        app: the command line; decorate functions with `@app.command()`.
    """


@hookspec
def register_datasets() -> list[Dataset]:  # type: ignore[empty-body]
    """Add sets of conversations to measure on."""
