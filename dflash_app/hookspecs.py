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
class Dataset:
    """A named set of conversations to measure on.

    Attributes:
        name: unique, as typed on a command line ("gsm8k").
        description: one line: what is in it, where it comes from, its licence.
        load: "pkg.mod:function"; called without arguments when the set is used, it returns an
            iterable of `tuple[Message, ...]`, each ending with a user message.
    """

    name: str
    description: str
    load: str


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
