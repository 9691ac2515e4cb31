"""The registry in use: the app's rows or a newer version of them, the user's, the fixed commits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dflash_app.errors import RegistryError
from dflash_app.hub.choices import with_composed
from dflash_app.hub.pins import read_pins, with_pins
from dflash_app.registry.load import Registry, load_registry
from dflash_app.registry.update import update_path

PINS = "revisions.json"
"""In the user's folder: what branches were resolved to."""


def load_known_pairs(home: Path, bundled: Path, others: Sequence[Path]) -> Registry:
    """Read everything that says which pairs there are.

    Args:
        home: the user's folder.
        bundled: the app's own registry file.
        others: the user's and the plugins' files; they may be absent.

    Returns:
        The registry, whose `paths` are those given here, an update or not.

    Raises:
        RegistryError: the bundled file is damaged; whatever else is, is a problem of the registry.
    """
    registry = load_rows(home, bundled, others)
    try:
        registry = with_pins(registry, read_pins(home / PINS))
    except RegistryError as error:
        registry = replace(registry, problems=(*registry.problems, error))
    return with_composed(registry)


def load_rows(home: Path, bundled: Path, others: Sequence[Path]) -> Registry:
    """The same without the recorded commits: the rows as the files say."""
    update, problems = update_path(home, bundled), []
    paths = (bundled, *others)
    if update.is_file():
        try:
            return replace(load_registry([update, *others]), paths=paths)
        except RegistryError as error:
            problems.append(error)
    registry = load_registry(paths)
    return replace(registry, problems=(*registry.problems, *problems))
