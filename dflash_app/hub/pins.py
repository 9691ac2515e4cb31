"""Commits that branches were resolved to, kept in the user's folder.

A registry row without a revision means "the tip of main", which moves, and models are retrained in
place. The first download resolves it to a commit; from then on the row has that revision.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dflash_app.errors import RegistryError
from dflash_app.registry.load import Registry
from dflash_app.registry.pair import ModelRef, Pair

_COMMIT = re.compile("[0-9a-f]{40}")


def read_pins(path: Path) -> dict[str, str]:
    """Commits by repository id; empty where there is no file.

    Raises:
        RegistryError: the file cannot be read, or says something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RegistryError(f"{path} cannot be read: correct it or delete it.") from error
    if not isinstance(found, dict) or not all(
        isinstance(commit, str) and _COMMIT.fullmatch(commit) for commit in found.values()
    ):
        raise RegistryError(
            f'{path} must say {{"org/model": "commit of 40 hex digits"}}: correct it or delete it.'
        )
    return found


def write_pin(path: Path, repo: str, commit: str) -> None:
    """Record what the main branch of a repository was resolved to.

    Raises:
        RegistryError: the file cannot be read or written; it is as it was.
    """
    pins = read_pins(path) | {repo: commit}
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.write_text(json.dumps(pins, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise RegistryError(
            f"{path} cannot be written ({error.strerror}): free space or correct its rights."
        ) from error


def with_pins(registry: Registry, pins: Mapping[str, str]) -> Registry:
    """The registry whose rows without a revision have the recorded one."""
    if not pins:
        return registry

    def pinned(pair: Pair) -> Pair:
        target, drafter = (_pinned(ref, pins) for ref in (pair.target, pair.drafter))
        if (target, drafter) == (pair.target, pair.drafter):
            return pair
        return pair.model_copy(update={"target": target, "drafter": drafter})

    return replace(
        registry,
        bundled=tuple(map(pinned, registry.bundled)),
        user=tuple(map(pinned, registry.user)),
    )


def _pinned(ref: ModelRef | None, pins: Mapping[str, str]) -> ModelRef | None:
    commit = pins.get(ref.repo) if ref and ref.repo else None
    if ref is None or commit is None or ref.revision is not None:
        return ref
    return ref.model_copy(update={"revision": commit})
