"""Whether the files on disk still have the content that the hub names them by; needs no network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dflash_app.hub.checksums import matches
from dflash_app.hub.needed import CONFIG

Verdict = Literal["right", "damaged", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file of a model.

    Attributes:
        name: path in the repository.
        size_bytes: on disk.
        verdict: "damaged": its content has another hash; "missing": a link without its file;
            "unknown": the cache keeps no hash of it (a copy instead of a link).
    """

    name: str
    size_bytes: int
    verdict: Verdict


def verify_folder(folder: Path) -> Iterator[FileCheck]:
    """Read every file of a snapshot and compare hashes; about a second for a GB.

    Args:
        folder: of one commit in the hub's cache, whose files link to blobs named by their hash.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        name = path.relative_to(folder).as_posix()
        etag = path.readlink().name if path.is_symlink() else ""
        if not path.exists():
            yield FileCheck(name, 0, "missing")
        elif len(etag) not in (40, 64):
            yield FileCheck(name, path.stat().st_size, "unknown")
        else:
            verdict: Verdict = "right" if matches(path, etag) else "damaged"
            yield FileCheck(name, path.stat().st_size, verdict)


def discard_damaged(folder: Path, checks: Sequence[FileCheck]) -> int:
    """Delete the damaged files of a snapshot, so that a download brings them again.

    Returns:
        How many were deleted; the model counts as partly here afterwards.
    """
    damaged = [folder / check.name for check in checks if check.verdict in ("damaged", "missing")]
    if damaged and folder / CONFIG not in damaged:  # without its link the snapshot is not complete
        (folder / CONFIG).unlink(missing_ok=True)
    for path in damaged:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return len(damaged)
