"""The hub names a file by its content: sha256 where it is large (LFS), git's sha1 where small."""

import hashlib
from pathlib import Path

CHUNK_BYTES = 1 << 20
SHA256_DIGITS = 64


def matches(path: Path, etag: str) -> bool:
    """Whether a file's content is what its name on the hub promises.

    Args:
        path: the file, read once.
        etag: 64 hex digits (sha256 of the content) or 40 (the id that git gives to it).
    """
    return digest(path, etag) == etag


def digest(path: Path, etag: str) -> str:
    """The content's hash, of the kind that `etag` is."""
    if len(etag) == SHA256_DIGITS:
        found = hashlib.sha256()
    else:
        header = b"blob %d\0" % path.stat().st_size
        found = hashlib.sha1(header, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()
