"""A newer version of the app's own registry: checked as a whole, shown as a difference, then taken.

It is kept in the user's folder under a name made from the registry that it replaces, so that a
newer version of the app, which brings a newer registry, is not hidden by an old update.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Any

from dflash_app.errors import RegistryError
from dflash_app.registry.load import Registry, load_registry
from dflash_app.registry.pair import Pair
from dflash_app.registry.rows import MAX_FILE_BYTES
from dflash_app.registry.save import remove_pair


@dataclass(frozen=True, slots=True)
class RowChange:
    """A pair that an update changes: each key with its old and new value, as text."""

    name: str
    keys: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A registry that was checked and not yet taken.

    Attributes:
        source: the file or address.
        added: names of new pairs.
        removed: names that the update no longer has.
        changed: pairs that say something else.
        left_out: names that are the user's own or a plugin's already: those rows stay theirs.
        text: what will be saved.
    """

    source: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[RowChange, ...]
    left_out: tuple[str, ...]
    text: str

    @property
    def empty(self) -> bool:
        """Whether taking it would change nothing."""
        return not (self.added or self.removed or self.changed)


def update_path(home: Path, bundled: Path) -> Path:
    """Where an update of this version's registry is kept."""
    try:
        digest = hashlib.sha256(bundled.read_bytes()).hexdigest()[:12]
    except OSError:  # `load_registry` says what is wrong with it
        digest = "unread"
    return home / f"registry-update-{digest}.yaml"


def propose(text: str, source: str, registry: Registry, home: Path) -> Proposal:
    """Check a registry and compare it with the one in use.

    Args:
        text: the file.
        source: where it is from, for messages.
        registry: the one in use.
        home: the user's folder; a file is made in it for the check, and deleted.

    Raises:
        RegistryError: it has an error (source and line named), holds a local path or a server, or
            no pair.
    """
    data = text.encode()
    if len(data) > MAX_FILE_BYTES:
        raise RegistryError(f"{source} is larger than {MAX_FILE_BYTES:,} bytes: shorten it.")
    scratch = home / f"registry-check.{os.getpid()}.{get_ident()}.yaml"  # another tab may check
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch.write_bytes(data)
        new = load_registry([scratch])
        _check_rows(new, registry, source)
        theirs = {pair.name for pair in registry.user}
        left_out = tuple(pair.name for pair in new.bundled if pair.name in theirs)
        for name in left_out:
            remove_pair(scratch, name)
        return _difference(
            source, registry, load_registry([scratch]), left_out, scratch.read_text("utf-8")
        )
    except RegistryError as error:
        raise RegistryError(str(error).replace(str(scratch), source)) from error
    except OSError as error:
        raise RegistryError(
            f"{home} cannot be written ({error.strerror}): free space or correct its rights."
        ) from error
    finally:
        with suppress(OSError):
            scratch.unlink()


def take(proposal: Proposal, home: Path, bundled: Path) -> None:
    """Use a proposed registry from now on.

    Raises:
        RegistryError: it cannot be saved; the one before stays in use.
    """
    path = update_path(home, bundled)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.write_text(proposal.text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise RegistryError(
            f"{path} cannot be written ({error.strerror}): free space or correct its rights."
        ) from error
    for old in home.glob("registry-update-*.yaml"):
        if old != path:
            with suppress(OSError):
                old.unlink()


def _check_rows(new: Registry, registry: Registry, source: str) -> None:
    """An update is from elsewhere: it may not point into this machine, or send prompts away."""
    if not new.bundled:
        raise RegistryError(f"{source} holds no pair: give a file in the registry's format.")
    known = {pair.name: pair for pair in registry.bundled}
    names = {pair.name for pair in new.bundled}
    for pair in registry.bundled:
        if pair.target.path is not None and pair.name not in names:
            raise RegistryError(f"{source} lacks the app's own pair {pair.name!r}: add its row.")
    for pair in new.bundled:
        refs = [ref for ref in (pair.target, pair.drafter) if ref is not None]
        servers = [ref.server for ref in refs if ref.server is not None]
        if servers:
            raise RegistryError(
                f"{source}: pair {pair.name!r} is on a server ({servers[0]}), which would get your "
                "prompts: an update has repositories only."
            )
        paths = {ref.path for ref in refs if ref.path is not None}
        if not paths:
            continue
        own = known.get(pair.name)
        if own is None or (own.target, own.drafter) != (pair.target, pair.drafter):
            raise RegistryError(
                f"{source}: pair {pair.name!r} names a folder of this machine ({min(paths)}): an "
                "update has repositories only."
            )


def _difference(
    source: str, registry: Registry, new: Registry, left_out: tuple[str, ...], text: str
) -> Proposal:
    old_rows = {pair.name: pair for pair in registry.bundled}
    new_rows = {pair.name: pair for pair in new.bundled}
    changed = [
        RowChange(name, keys)
        for name, row in new_rows.items()
        if name in old_rows and (keys := _changed_keys(old_rows[name], row))
    ]
    return Proposal(
        source=source,
        added=tuple(name for name in new_rows if name not in old_rows),
        removed=tuple(name for name in old_rows if name not in new_rows),
        changed=tuple(changed),
        left_out=left_out,
        text=text,
    )


def _changed_keys(old: Pair, new: Pair) -> tuple[tuple[str, str, str], ...]:
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    return tuple(
        (key, _say(before[key]), _say(after[key])) for key in before if before[key] != after[key]
    )


def _say(value: Any) -> str:
    text = "(absent)" if value is None else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
