"""A model that is in the cache at another revision than the pinned one, and what that changes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dflash_app.errors import HubError
from dflash_app.hub.cache import is_here
from dflash_app.hub.disk import repo_folder
from dflash_app.hub.needed import CONFIG
from dflash_app.hub.remote import ask_config
from dflash_app.registry.pair import ModelRef

ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Change:
    """One key of a config, as dotted path, in both revisions."""

    key: str
    cached: str
    pinned: str


@dataclass(frozen=True, slots=True)
class Drift:
    """A model whose pinned revision is not here while another one is.

    Attributes:
        repo: its id.
        pinned: the revision that the registry names.
        cached: the commits that are here, the newest first.
    """

    repo: str
    pinned: str
    cached: tuple[str, ...]

    @property
    def warning(self) -> str:
        """One sentence for the user."""
        return (
            f"{self.repo} is here at {self.cached[0][:12]}, not at the revision "
            f"{self.pinned[:12]} that the registry names: download the pair to get that one."
        )


def find_drift(ref: ModelRef, cache_dir: Path | None = None) -> Drift | None:
    """Look on disk whether only other revisions of a model are there."""
    if ref.repo is None or ref.revision is None or is_here(ref, cache_dir):
        return None
    snapshots = repo_folder(ref.repo, cache_dir) / "snapshots"
    found = [path.parent for path in snapshots.glob(f"*/{CONFIG}")]
    others = [path for path in found if not path.name.startswith(ref.revision)]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    if not others:
        return None
    return Drift(ref.repo, ref.revision, tuple(path.name for path in others))


def config_changes(drift: Drift, cache_dir: Path | None = None) -> tuple[Change, ...]:
    """What the pinned revision's config.json says otherwise; asks the hub for it.

    Raises:
        HubOffline, GatedModel, HubError: the hub does not tell, or the cached one is damaged.
    """
    path = repo_folder(drift.repo, cache_dir) / "snapshots" / drift.cached[0] / CONFIG
    try:
        cached = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HubError(f"{path} cannot be read: delete the model and download it.") from error
    return compare(cached, ask_config(drift.repo, drift.pinned))


def compare(cached: Mapping[str, Any], pinned: Mapping[str, Any]) -> tuple[Change, ...]:
    """The keys whose values differ, sorted."""
    old, new = dict(_leaves(cached)), dict(_leaves(pinned))
    return tuple(
        Change(key, old.get(key, ABSENT), new.get(key, ABSENT))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    )


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Every value that is no mapping, by its dotted path, as JSON."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, f"{above}{key}.")
        else:
            yield f"{above}{key}", json.dumps(item, ensure_ascii=False)[:200]
