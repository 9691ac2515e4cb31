"""The download process: `python -m dflash_app.hub.transfer`, one job, then the end.

It reads one line of JSON from stdin (what to fetch), writes events as lines of JSON to stdout, and
ends when stdin does, so that it never outlives the app. It may be killed at any time: a snapshot
gets its files only when all of them are complete, `config.json` last.
"""

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dflash_app.errors import DiskFull, GatedModel, HubError
from dflash_app.hub.blobs import RemoteFile, fetch
from dflash_app.hub.disk import free_bytes
from dflash_app.hub.faults import translate
from dflash_app.hub.needed import CONFIG, WEIGHTS_INDEX, needed_files

PROGRESS_PERIOD_S = 0.25
CHUNK_BYTES = 256 * 1024
"""Received and written at a time: progress stays visible on a slow line."""
CONNECTIONS = 4
ANSWER_TIMEOUT_S = 5.0
"""For a question about a model; a file has the library's own limits."""
QUESTION_TRIES = 4
EXIT_FAILED = 1
COMMIT = re.compile("[0-9a-f]{40}")
ETAG = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")

Say = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Model:
    """A repository to fetch: `revision` is None for the tip of its main branch."""

    repo: str
    revision: str | None
    role: str


def main() -> int:
    """Run the job that stdin names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the app, which stops us
    say = _take_stdout()
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    models = [Model(**model) for model in request["models"]]
    _prepare_library(say)
    failed: HubError | None = None
    try:
        _fetch_all(models, Path(request["cache_dir"]), request["endpoint"], say)
    except HubError as error:
        failed = error
    except Exception:
        say("failed", text="The download broke off: try again.", url=None)
        raise
    if failed is None:
        say("done")
        return 0
    url = failed.url if isinstance(failed, GatedModel) else None
    say("failed", text=str(failed), url=url)
    return EXIT_FAILED


def _fetch_all(models: Sequence[Model], cache_dir: Path, endpoint: str, say: Say) -> None:
    plans = [_plan(model, cache_dir, endpoint, say) for model in models]
    files = [file for plan in plans for file in plan]
    total = sum(file.size_bytes for file in files)
    say("plan", total_bytes=total, done_bytes=_present(files))
    _check_room(files, cache_dir)
    stop = threading.Event()
    ticker = threading.Thread(target=_tick, args=(files, stop, say), daemon=True)
    ticker.start()
    for plan in plans:
        with _naming(plan[0].repo):
            _in_parallel(plan, lambda file: fetch(file, endpoint))
    stop.set()
    ticker.join()
    say("saving")
    for model, plan in zip(models, plans, strict=True):
        with _naming(model.repo):
            _into_snapshot(model, plan, endpoint)


def _plan(model: Model, cache_dir: Path, endpoint: str, say: Say) -> list[RemoteFile]:
    """Ask what the repository holds, and choose the files; config.json is the last."""
    with _naming(model.repo, model.revision):
        info = _ask(model, endpoint, say)
        # A commit becomes a folder's name.
        if not COMMIT.fullmatch(info.sha or "") or not info.sha.startswith(model.revision or ""):
            raise HubError(f"{model.repo} is listed at another commit: try again later.")
        say("resolved", repo=model.repo, revision=model.revision, commit=str(info.sha))
        listed = _listed(model.repo, info, cache_dir)
        index = None
        # The small files first: a gated model refuses them, and the index tells the shards.
        for name in (CONFIG, WEIGHTS_INDEX):
            if name in listed:
                fetch(listed[name], endpoint)
        if WEIGHTS_INDEX in listed:
            index = listed[WEIGHTS_INDEX].blob.read_text(encoding="utf-8", errors="replace")
        names = needed_files(model.repo, listed, index, role=model.role)
        return [listed[name] for name in names]


def _listed(repo: str, info: Any, cache_dir: Path) -> dict[str, RemoteFile]:
    """The repository's files by name."""
    files = {}
    for item in info.siblings or ():
        etag = item.lfs.sha256 if item.lfs else item.blob_id
        size = item.lfs.size if item.lfs else item.size
        if size is None or not ETAG.fullmatch(etag or ""):  # a hash becomes a file's name
            raise HubError(f"{repo} lists a file without size or checksum: try again later.")
        files[item.rfilename] = RemoteFile(repo, info.sha, item.rfilename, size, etag, cache_dir)
    return files


def _ask(model: Model, endpoint: str, say: Say) -> Any:
    """The repository's files, sizes and hashes; waits where the hub says so, a few times."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=endpoint, library_name="dflash-studio")
    for left in reversed(range(QUESTION_TRIES)):
        try:
            return api.model_info(
                model.repo,
                revision=model.revision,
                files_metadata=True,
                timeout=ANSWER_TIMEOUT_S,
            )
        except HfHubHTTPError as error:
            status = error.response.status_code
            if not left or (status < 500 and status != 429):
                raise
            told = error.response.headers.get("Retry-After", "")
            wait_s = float(told) if told.isdigit() else 1.0
            say("note", text=f"The hub is busy ({status}): asking again in {wait_s:.0f} s.")
            time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def _into_snapshot(model: Model, plan: Sequence[RemoteFile], endpoint: str) -> None:
    """Let the library link the complete files into the snapshot, the config last."""
    from huggingface_hub import hf_hub_download

    def link(file: RemoteFile) -> None:
        hf_hub_download(
            file.repo,
            file.name,
            revision=file.commit,
            cache_dir=file.cache_dir,
            endpoint=endpoint,
            library_name="dflash-studio",
        )

    *others, config = plan  # the config is the last of `needed_files`
    _in_parallel(others, link)
    name = model.revision or "main"
    if name != config.commit:  # the cache's own note of what a branch or a short id stood for
        ref = config.blob.parent.parent / "refs" / name
        ref.parent.mkdir(exist_ok=True)
        new = ref.with_name(f"{name}.{os.getpid()}.new")
        new.write_text(config.commit, encoding="utf-8")
        new.replace(ref)
    link(config)


def _in_parallel(files: Sequence[RemoteFile], work: Callable[[RemoteFile], None]) -> None:
    """Do every file; the first that fails ends the process's work on all."""
    pool = ThreadPoolExecutor(CONNECTIONS)
    running: list[Future[None]] = [pool.submit(work, file) for file in files]
    done, _ = wait(running, return_when=FIRST_EXCEPTION)
    pool.shutdown(wait=False, cancel_futures=True)
    for each in done:
        each.result()


@contextmanager
def _naming(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turn whatever fails inside into a sentence about the model."""
    try:
        yield
    except Exception as error:
        raise translate(error, repo, revision) from error


def _check_room(files: Sequence[RemoteFile], cache_dir: Path) -> None:
    lacking = sum(file.size_bytes for file in files) - _present(files)
    free = free_bytes(cache_dir)
    if lacking > free:
        raise DiskFull(
            f"The download needs {lacking / 1e9:.2f} GB more and the disk of {cache_dir} has "
            f"{free / 1e9:.2f} GB free: delete a model or name another folder in HF_HUB_CACHE."
        )


def _present(files: Sequence[RemoteFile]) -> int:
    return sum(file.present_bytes() for file in files)


def _tick(files: Sequence[RemoteFile], stop: threading.Event, say: Say) -> None:
    while not stop.wait(PROGRESS_PERIOD_S):
        say("progress", done_bytes=_present(files))


def _prepare_library(say: Say) -> None:
    from huggingface_hub import constants

    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    logging.getLogger("huggingface_hub").addHandler(_Notes(say))


class _Notes(logging.Handler):
    """Tells the user why the library waits."""

    def __init__(self, say: Say) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("Rate limited."):  # others hold addresses, which may be signed
            self._say("note", text=f"The hub asked to wait: {text.split(' before')[0]}.")
        elif text.startswith("Error while downloading"):
            self._say("note", text="The connection broke off: trying again.")


def _take_stdout() -> Say:
    """Keep stdout for events alone: what a library prints goes nowhere."""
    sys.stdout.flush()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    lock = threading.Lock()

    def say(event: str, **values: Any) -> None:
        with lock:
            out.write(json.dumps({"event": event} | values) + "\n")
            out.flush()

    return say


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(EXIT_FAILED)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # a thread may still wait for an answer that nobody needs
