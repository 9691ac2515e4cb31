"""What the hub's cache holds, what deleting would free, and the deletion.

The cache is the standard one of huggingface_hub, shared with every other program that uses it.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dflash_app.errors import HubError, ModelInUse


@dataclass(frozen=True, slots=True)
class RevisionUse:
    """One commit of a repository in the cache.

    Attributes:
        commit: its id.
        refs: branches and short ids that stand for it here.
        size_bytes: of its files; other revisions may share some.
        num_files: how many.
        modified: when it was downloaded last.
    """

    commit: str
    refs: tuple[str, ...]
    size_bytes: int
    num_files: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class RepoUse:
    """One model repository in the cache.

    Attributes:
        repo: its id.
        size_bytes: everything it takes, unfinished downloads included.
        unfinished_bytes: of files that no revision holds yet.
        revisions: the newest first.
    """

    repo: str
    size_bytes: int
    unfinished_bytes: int
    revisions: tuple[RevisionUse, ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """What a deletion will do; nothing has happened yet.

    Attributes:
        revisions: repository id and commit of each revision to delete.
        unfinished: repositories whose unfinished downloads go too.
        freed_bytes: what the disk gains, files shared with other revisions left out.
        kept: sentences about what stays and why.
    """

    revisions: tuple[tuple[str, str], ...]
    unfinished: tuple[str, ...]
    freed_bytes: int
    kept: tuple[str, ...] = ()


def cache_folder(cache_dir: Path | None = None) -> Path:
    """The cache that huggingface_hub uses (HF_HUB_CACHE), or the given one."""
    from huggingface_hub import constants

    return (cache_dir or Path(constants.HF_HUB_CACHE)).expanduser().absolute()


def repo_folder(repo: str, cache_dir: Path | None = None) -> Path:
    """A repository's folder in the cache; it may not exist."""
    return cache_folder(cache_dir) / f"models--{repo.replace('/', '--')}"


def free_bytes(cache_dir: Path | None = None) -> int:
    """Free space of the disk that holds the cache, or will hold it."""
    folder = cache_folder(cache_dir)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def bytes_here(repo: str, cache_dir: Path | None = None) -> int:
    """What a repository takes on disk, unfinished downloads included; quick, without a scan."""
    return sum(blob_sizes(repo_folder(repo, cache_dir)).values())


def disk_use(cache_dir: Path | None = None) -> tuple[RepoUse, ...]:
    """Every model repository in the cache, the largest first."""
    folder = cache_folder(cache_dir)
    if not folder.is_dir():
        return ()
    scanned = {repo.repo_path.name: repo for repo in _scan(folder).repos}
    found = []
    for path in folder.glob("models--*--*"):
        blobs = blob_sizes(path)
        unfinished = _unfinished(path)
        revisions = scanned[path.name].revisions if path.name in scanned else ()
        # Where links are not possible (Windows), snapshots hold the files themselves.
        linked = scanned[path.name].size_on_disk if path.name in scanned else 0
        size = max(sum(blobs.values()), linked + sum(unfinished.values()))
        if not size and not revisions:
            continue
        repo = path.name.removeprefix("models--").replace("--", "/")
        uses = sorted(map(_revision_use, revisions), key=lambda use: use.modified, reverse=True)
        found.append(RepoUse(repo, size, sum(unfinished.values()), tuple(uses)))
    return tuple(sorted(found, key=lambda use: -use.size_bytes))


def plan_removal(
    revisions: Sequence[tuple[str, str]],
    unfinished: Sequence[str] = (),
    kept: Sequence[str] = (),
    cache_dir: Path | None = None,
) -> Removal:
    """Compute what deleting would free.

    Args:
        revisions: repository id and commit of each; those that are not in the cache are left out.
        unfinished: repositories whose unfinished downloads are to go.
        kept: see `Removal`.
        cache_dir: the hub's cache; None takes the library's own.
    """
    folder = cache_folder(cache_dir)
    here = tuple(
        (repo, commit)
        for repo, commit in dict.fromkeys(revisions)
        if (repo_folder(repo, folder) / "snapshots" / commit).is_dir()
    )
    freed = _strategy(folder, here).expected_freed_size if here else 0
    begun = {repo: _unfinished(repo_folder(repo, folder)) for repo in dict.fromkeys(unfinished)}
    freed += sum(sum(files.values()) for files in begun.values())
    repos = tuple(repo for repo, files in begun.items() if files)
    return Removal(here, repos, freed, tuple(kept))


def remove(removal: Removal, cache_dir: Path | None = None) -> int:
    """Delete what was planned.

    Returns:
        The bytes that the disk gained.

    Raises:
        ModelInUse: a file cannot be deleted because a program holds it open (Windows).
        HubError: or its folder is read-only.
    """
    folder = cache_folder(cache_dir)
    before = sum(bytes_here(repo, folder) for repo in _repos(removal))
    try:
        for repo in removal.unfinished:
            for path in _unfinished(repo_folder(repo, folder)):
                path.unlink(missing_ok=True)
        if removal.revisions:
            _strategy(folder, removal.revisions).execute()
        for repo, commit in removal.revisions:
            _remove_damaged(repo_folder(repo, folder), commit)
        for repo in _repos(removal):
            _drop_if_empty(repo_folder(repo, folder))
    except PermissionError as error:
        raise ModelInUse(
            f"{error.filename} cannot be deleted ({error.strerror}): close the programs that use "
            "it, or correct its rights."
        ) from error
    except OSError as error:
        raise HubError(f"{error.filename} cannot be deleted: {error.strerror}.") from error
    return before - sum(bytes_here(repo, folder) for repo in _repos(removal))


def _repos(removal: Removal) -> list[str]:
    return list(dict.fromkeys([*(repo for repo, _ in removal.revisions), *removal.unfinished]))


def _scan(folder: Path) -> Any:
    from huggingface_hub import scan_cache_dir

    return scan_cache_dir(folder)


def _strategy(folder: Path, revisions: Sequence[tuple[str, str]]) -> Any:
    """The library's plan for deleting; a commit belongs to one repository."""
    return _scan(folder).delete_revisions(*(commit for _, commit in revisions))


def _revision_use(revision: Any) -> RevisionUse:
    return RevisionUse(
        commit=revision.commit_hash,
        refs=tuple(sorted(revision.refs)),
        size_bytes=revision.size_on_disk,
        num_files=len(revision.files),
        modified=datetime.fromtimestamp(revision.last_modified, UTC),
    )


def blob_sizes(repo_path: Path) -> dict[Path, int]:
    """Size of each file among the blobs of a repository's folder, unfinished ones too."""
    sizes = {}
    for path in repo_path.glob("blobs/*"):
        try:
            sizes[path] = path.stat().st_size
        except OSError:  # deleted meanwhile
            continue
    return sizes


def _unfinished(repo_path: Path) -> dict[Path, int]:
    """Sizes of the files among the blobs that no snapshot holds."""
    held = {
        path.readlink().name for path in repo_path.glob("snapshots/*/**/*") if path.is_symlink()
    }
    return {path: size for path, size in blob_sizes(repo_path).items() if path.name not in held}


def _remove_damaged(repo_path: Path, commit: str) -> None:
    """Delete a revision that the library left: it leaves repositories with a dangling link."""
    snapshot = repo_path / "snapshots" / commit
    if snapshot.is_dir():
        shutil.rmtree(snapshot)
        for path in _unfinished(repo_path):
            path.unlink(missing_ok=True)


def _drop_if_empty(repo_path: Path) -> None:
    """A repository without a file left is no longer in the cache."""
    if not any(repo_path.glob("snapshots/*/*")) and not any(repo_path.glob("blobs/*")):
        shutil.rmtree(repo_path, ignore_errors=True)
