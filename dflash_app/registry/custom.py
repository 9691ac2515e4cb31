"""A user's own pair: from what was typed to a row."""

import re
from pathlib import Path

from pydantic import ValidationError

from dflash_app.errors import RegistryError
from dflash_app.registry.load import explain
from dflash_app.registry.pair import (
    EMBEDDED_PATHS,
    REMOTE_BACKEND,
    UNKNOWN_FAMILY,
    ModelRef,
    Pair,
)

NO_FOLDERS = (
    "This page takes repository ids only, because other machines can reach it: add a folder with "
    "`dflash-app pairs add`, or serve the page with DFLASH_APP_LOCAL_FOLDERS=1."
)


def read_ref(
    text: str, revision: str | None = None, *, role: str = "model", folders: bool = True
) -> ModelRef:
    """A model by what a user typed: a repository id, or a folder of this machine.

    Args:
        text: `Qwen/Qwen3-8B`, `/models/mine`, `~/mine`, `./mine`.
        revision: commit of the repository.
        role: "target" or "drafter", for the message.
        folders: False refuses folders without looking whether they exist.

    Raises:
        RegistryError: neither, or a folder that is refused or not there.
    """
    text = text.strip()
    if not text:
        raise RegistryError(
            f"The {role} is missing: give a repository id such as Qwen/Qwen3-8B or a folder."
        )
    if text.lower().startswith(("http://", "https://")) and "huggingface.co" not in text:
        raise RegistryError(
            f"The {role} {_short(text)} is an address: add a server on the Servers tab or with "
            "`dflash-app servers add`, or give a repository id such as Qwen/Qwen3-8B."
        )
    said = {"revision": revision or None}
    if text in EMBEDDED_PATHS:
        said["path"] = text
    elif _means_folder(text, folders):
        said["path"] = _folder(text, folders)
    else:
        said["repo"] = text
    try:
        return ModelRef.model_validate(said)
    except ValidationError as error:
        if "repo" in error.errors(include_url=False)[0]["loc"]:
            raise RegistryError(
                f"The {role} {_short(text)} is neither a folder nor a repository: give a path that "
                "begins with '/', '~' or '.', or a repository id such as Qwen/Qwen3-8B, without "
                "the hub's address."
            ) from error
        raise _refused(f"The {role} cannot be used", error) from error


def read_server(url: str, model: str, *, role: str = "target") -> ModelRef:
    """A model on a server, by what a user typed.

    Args:
        url: base address, `http://gpu-box:8000/v1`; without user and password.
        model: the name that the server gives it.
        role: "target" or "drafter", for the message.

    Raises:
        RegistryError: a value is not allowed.
    """
    try:
        return ModelRef.model_validate({"server": url.strip(), "model": model.strip()})
    except ValidationError as error:
        raise _refused(f"The {role} cannot be used", error) from error


def new_pair(
    name: str,
    target: ModelRef,
    drafter: ModelRef | None,
    *,
    title: str | None = None,
    family: str = UNKNOWN_FAMILY,
    block_size: int | None = None,
) -> Pair:
    """A row for the user's registry.

    Args:
        name: unique over all registries; empty makes one from the drafter's, or the target's.
        target: the model that decides.
        drafter: the model that drafts, on a server where the target is; None only there.
        title: for people; None takes the name.
        family: the target's `model_type` where it is known.
        block_size: the drafter's, where it is known.

    Raises:
        RegistryError: a value is not allowed.
    """
    name = name.strip() or suggest_name(drafter or target)
    row = {
        "name": name,
        "title": (title or "").strip() or name,
        "family": family,
        "target": target,
        "drafter": drafter,
        "block_size": block_size,
        "backends": (REMOTE_BACKEND,) if target.server is not None else (),
    }
    try:
        return Pair.model_validate(row)
    except ValidationError as error:
        raise _refused("The pair cannot be added", error) from error


def suggest_name(ref: ModelRef) -> str:
    """A name that the registry allows, from the end of a model's, or from what a server serves."""
    last = re.split(r"[/\\:]", (ref.model or ref.source).rstrip("/\\"))[-1].lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last).lstrip("._-")[:64] or "my-pair"


def _means_folder(text: str, folders: bool) -> bool:
    if text.startswith(("/", "~", ".", "\\")) or Path(text).is_absolute():
        return True
    try:
        return folders and Path(text).is_dir()
    except (OSError, ValueError):  # too long a name, or a character that no name may have
        return False


def _folder(text: str, allowed: bool) -> str:
    if not allowed:
        raise RegistryError(NO_FOLDERS)
    try:
        folder = Path(text).expanduser().resolve()
        found = folder.is_dir()
    except (OSError, ValueError, RuntimeError):
        found = False
    if not found:
        raise RegistryError(f"{text[:200]} is no folder of this machine: correct the path.")
    return str(folder)


def _short(text: str) -> str:
    """Quoted for a message; the end of a long one is left out."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


def _refused(what: str, error: ValidationError) -> RegistryError:
    return RegistryError(f"{what}: {explain(error.errors(include_url=False)[0])}.")
