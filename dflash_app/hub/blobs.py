"""Fetch one file into the hub's cache, going on where an earlier download stopped.

huggingface_hub 2.4 writes each download to a file with a name of its own and deletes it when it
fails, so a large file always begins anew. Here the library still makes every request (address,
token, redirects, rate limits, retries), but into one partial file, `blobs/ETAG.incomplete`, the
name that its cache has for unfinished files. A file counts only once its content has the hash that
the hub names it by; the library then puts it into the snapshot.
"""

import io
import time
from dataclasses import dataclass
from pathlib import Path

from dflash_app.errors import HubError
from dflash_app.hub.checksums import matches

RETRY_WAITS_S = (1.0, 2.0, 4.0)
"""Between tries that brought nothing new; one that brought something begins the row again."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at one commit.

    Attributes:
        repo: id of the repository.
        commit: 40 hex digits.
        name: path in the repository.
        size_bytes: as the hub lists it.
        etag: the hash that names its content; see `checksums.digest`.
        cache_dir: of the hub's cache.
    """

    repo: str
    commit: str
    name: str
    size_bytes: int
    etag: str
    cache_dir: Path

    @property
    def blob(self) -> Path:
        """Where the complete file is."""
        folder = f"models--{self.repo.replace('/', '--')}"
        return self.cache_dir / folder / "blobs" / self.etag

    @property
    def partial(self) -> Path:
        """Where its beginning is until then."""
        return self.blob.with_name(f"{self.etag}.incomplete")

    @property
    def lock(self) -> Path:
        """The file by which huggingface_hub, too, keeps two downloads of one file apart."""
        return self.cache_dir / ".locks" / self.blob.parent.parent.name / f"{self.etag}.lock"

    def present_bytes(self) -> int:
        """How much of it is on disk."""
        for path in (self.blob, self.partial):
            try:
                return path.stat().st_size
            except OSError:
                continue
        return 0


def fetch(file: RemoteFile, endpoint: str) -> None:
    """Bring a file to its place among the blobs; returns at once where it is there.

    Raises:
        HubError: its content is not what its hash says, twice.
        Exception: whatever the library or the disk raises; what was received is kept.
    """
    from huggingface_hub.utils import WeakFileLock

    for path in (file.blob, file.lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(file.lock):
        for _ in range(2):
            if file.blob.exists():
                return
            _receive(file, endpoint)
            if matches(file.partial, file.etag):
                file.partial.replace(file.blob)
                return
            file.partial.unlink()
    raise HubError(
        f"{file.name} of {file.repo} arrived damaged twice (its checksum differs) and was deleted: "
        "try again later."
    )


def _receive(file: RemoteFile, endpoint: str) -> None:
    """Fill the partial file to its full size."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    if file.size_bytes > constants.MAX_HTTP_DOWNLOAD_SIZE:  # the hub's own limit for plain HTTP
        raise HubError(
            f"{file.name} of {file.repo} has {file.size_bytes / 1e9:.0f} GB, more than this app "
            f"can fetch: run `hf download {file.repo} --revision {file.commit}`."
        )
    file.partial.touch()  # of an empty file there is nothing to ask for
    tries_left = list(RETRY_WAITS_S)
    while file.present_bytes() != file.size_bytes:
        before = file.present_bytes()
        if before > file.size_bytes:
            file.partial.unlink()
            before = 0
        try:
            _request(file, endpoint, before)
        except (httpx2.TransportError, HfHubHTTPError) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
                raise
            if file.present_bytes() > before:
                tries_left = list(RETRY_WAITS_S)
            if not tries_left:
                raise
            time.sleep(tries_left.pop(0))


def _request(file: RemoteFile, endpoint: str, present: int) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(file.repo, file.name, revision=file.commit, endpoint=endpoint)
    headers = build_hf_headers(library_name="dflash-studio")
    headers["Accept-Encoding"] = "identity"  # a range counts the bytes of the file itself
    with _Partial(io.FileIO(file.partial, "ab")) as partial:
        http_get(
            url,
            partial,
            resume_size=present,
            headers=headers,
            expected_size=file.size_bytes,
            displayed_filename=file.name,
        )


class _Partial(io.BufferedWriter):
    """Every chunk is in the file before the next is asked for: a killed process loses none."""

    def write(self, chunk: object) -> int:
        written = super().write(chunk)  # type: ignore[arg-type]
        self.flush()
        return written
