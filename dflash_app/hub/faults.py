"""What huggingface_hub raises, as one sentence that names the model and the cure."""

import errno
from typing import Any

from dflash_app.errors import DiskFull, GatedModel, HubError, HubOffline

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Disk full, quota reached, file larger than its limit."""


def licence_url(repo: str) -> str:
    """The page on which a gated model's licence is accepted."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repo}"


def translate(error: Exception, repo: str, revision: str | None = None) -> HubError:
    """Turn an error of the library or of the disk into ours.

    Args:
        error: what was raised while `repo` was asked for.
        repo: id of the model.
        revision: as it was asked for.
    """
    from huggingface_hub import errors

    root = _root(error)
    if isinstance(root, HubError):
        return root
    if isinstance(root, errors.HfHubHTTPError):
        return _refused(root, repo, revision)
    if isinstance(root, errors.OfflineModeIsEnabled):
        return HubOffline(f"{repo} cannot be fetched, HF_HUB_OFFLINE is set: unset it to download.")
    if isinstance(root, OSError) and root.errno and not isinstance(root, ConnectionError):
        return _not_saved(root, repo)
    return _no_answer(root, repo)


def _refused(error: Any, repo: str, revision: str | None) -> HubError:
    """The hub answered, and it was no."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):  # a RepositoryNotFoundError too: ask first
        return _gated(repo)
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"{repo} has no revision {revision!r}: correct it in the registry.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            f"{repo} is not on the hub, or it is private: correct the name, or give a token that "
            "may read it."
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return HubError(f"{repo} lacks a file that is needed: try again later.")
    return _status(error.response.status_code, repo)


def _not_saved(error: OSError, repo: str) -> HubError:
    if error.errno in NO_ROOM:
        return DiskFull(
            f"The disk is full, so the download of {repo} stopped; what is there is kept: free "
            "some space and resume."
        )
    where = error.filename or "the model cache"
    return HubError(f"{repo} cannot be saved in {where} ({error.strerror}): correct its rights.")


def _no_answer(error: BaseException, repo: str) -> HubError:
    import httpx2

    name = type(error).__name__
    if isinstance(error, httpx2.TransportError | ConnectionError):
        return HubOffline(
            f"{repo} cannot be fetched, the hub does not answer ({name}): check the network and "
            "try again."
        )
    return HubError(f"{repo} cannot be fetched ({name}): try again later.")


def _root(error: BaseException) -> BaseException:
    """The library wraps what happened in a LocalEntryNotFoundError: "not in the cache either"."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _gated(repo: str) -> GatedModel:
    from huggingface_hub import get_token

    has = "your token has no access to it yet" if get_token() else "it needs a token"
    return GatedModel(
        f"{repo} is gated and {has}: accept its licence at {licence_url(repo)}, then log in with "
        "a token of the account that accepted (`dflash-app hub login`).",
        licence_url(repo),
    )


def _status(status: int, repo: str) -> HubError:
    if status == 401:
        return HubError(
            f"{repo} cannot be fetched, the hub refuses your token: log in again "
            "(`dflash-app hub login`)."
        )
    if status == 403:
        return HubError(f"{repo} cannot be fetched, your token may not read it: use another token.")
    if status == 429:
        return HubError(f"The hub limits your requests, {repo} must wait: try again in minutes.")
    if status >= 500:
        return HubError(f"{repo} cannot be fetched, the hub has a fault ({status}): try later.")
    return HubError(f"{repo} cannot be fetched, the hub answered {status}: try again later.")
