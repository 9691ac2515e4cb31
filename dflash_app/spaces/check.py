"""Whether a checkout can be pushed to a Space: each check passes, or names the cure."""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from dflash_app.spaces.front_matter import FrontMatter, read_front_matter
from dflash_app.spaces.resolution import CannotResolve
from dflash_app.spaces.resolution import resolve as resolve_requirements

MAX_FILE_BYTES = 10_000_000
"""Larger files need the hub's Xet storage, and a clone without it would hold pointers."""
ZERO_GPU_TORCH = ("2.11.0", "2.10.0", "2.9.1", "2.8.0")
"""The newest first; ZeroGPU runs no other (read in November 2026)."""
ZERO_GPU_PYTHON = "3.12"
_BUILD_TIMEOUT_S = 300
_MAX_SCANNED_BYTES = 2_000_000
_SECRETS = {
    "a Hugging Face token": re.compile(rb"\bhf_[A-Za-z]{30,}\b"),
    "an API key": re.compile(
        rb"\b(?:sk-[A-Za-z0-9_-]{32,}|AKIA[0-9A-Z]{16}|ghp_[A-Za-z0-9]{36})\b"
    ),
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
}
_SECRET_FILES = re.compile(r"(?:^|/)(?:\.env(?:\..*)?|id_(?:rsa|ed25519)|[^/]*\.pem)$")
_IGNORED = (".venv", "__pycache__")
_BUILD = """
import app
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from dflash_app.workspace import open_workspace
workspace = open_workspace()
assert workspace.settings.public is not None, "the page is not public"
build_page(workspace, LiveRuns())
problems = [f"{each.name}: {each.reason}" for each in workspace.plugins.problems]
problems += map(str, workspace.registry.problems)
print(problems[0] if problems else ", ".join(pair.name for pair in workspace.pairs()) or "no pair")
raise SystemExit(bool(problems) or not workspace.pairs())
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: False where it must be mended before a push.
        detail: what was found, or what is wrong with its cure.
    """

    name: str
    ok: bool
    detail: str


class Unfit(Exception):
    """What is wrong, with its cure."""


def check_checkout(folder: Path, *, build: bool = True, resolve: bool = False) -> Iterator[Check]:
    """Look at everything; nothing is changed.

    Args:
        folder: of the checkout.
        build: also build the page in a process of its own, which takes seconds.
        resolve: also ask the package index what ZeroGPU would install, which takes a minute; nobody
            else is asked over the network.
    """
    files = files_to_push(folder)
    looks: list[tuple[str, Callable[[], str]]] = [
        ("README.md", lambda: _check_front_matter(folder)),
        ("gradio", lambda: _check_gradio(folder)),
        ("Python", lambda: _check_python(folder)),
        ("requirements.txt", lambda: _check_requirements(folder)),
        ("torch of ZeroGPU", lambda: _check_torch(folder)),
        ("file sizes", lambda: _check_sizes(folder, files)),
        ("secrets", lambda: _check_secrets(folder, files)),
        (".gitignore", lambda: _check_ignored(folder)),
    ]
    if build:
        looks.append(("public page", lambda: _check_build(folder)))
    if resolve:
        looks.append(("installation on ZeroGPU", lambda: _check_resolution(folder)))
    for name, look in looks:
        try:
            yield Check(name, True, look())
        except Unfit as reason:
            yield Check(name, False, str(reason))


def files_to_push(folder: Path) -> list[str]:
    """What git has or would take; without git, every file but what is never pushed."""
    listed = subprocess.run(  # noqa: S603 the only argument is a folder
        ["git", "-C", str(folder), "ls-files", "-coz", "--exclude-standard"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [name for name in listed.stdout.split("\0") if name]
        return sorted({name for name in names if (folder / name).is_file()})
    never = {".git", *_IGNORED}
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not never & set(path.relative_to(folder).parts)
    )


def _check_front_matter(folder: Path) -> str:
    front = _front_matter(folder)
    if not (folder / front.app_file).is_file():
        raise Unfit(f"app_file is {front.app_file!r}, which is not there: name app.py.")
    return f"{front.title}, {front.sdk} {front.sdk_version}, {front.suggested_hardware}"


def _check_gradio(folder: Path) -> str:
    wanted = _front_matter(folder).sdk_version
    tested = _pins(folder).get("gradio")
    if wanted != tested:
        raise Unfit(f"sdk_version is {wanted} and the tests ran on {tested}: set it to {tested}.")
    return f"{wanted}, as tested"


def _check_python(folder: Path) -> str:
    named = _front_matter(folder).python_version
    if named != ZERO_GPU_PYTHON and not named.startswith(f"{ZERO_GPU_PYTHON}."):
        raise Unfit(f"python_version is {named}; ZeroGPU runs {ZERO_GPU_PYTHON}: set it to that.")
    needed = str(_project(folder)["requires-python"])
    if Version(named) not in SpecifierSet(needed):
        raise Unfit(f"python_version is {named} and the app needs {needed}: set one that does.")
    return f"{named}, the app needs {needed}"


def _check_requirements(folder: Path) -> str:
    listed = _requirements(folder)
    wanted = [Requirement(each) for each in _dependencies(folder)]
    lacking = [str(each) for each in wanted if each not in listed]
    if lacking:
        raise Unfit(f"{lacking[0]} of pyproject.toml is not in it as it stands there: add it.")
    pins = _pins(folder)
    for each in listed:
        pin = pins.get(_normal(each.name))
        if pin is None:
            raise Unfit(f"{each.name} has no tested version: pin it in constraints.txt.")
        if pin not in each.specifier:
            raise Unfit(f"{each} excludes the tested {pin}: bring it and constraints.txt together.")
    return f"{len(listed)} requirements, each with a tested version"


def _check_torch(folder: Path) -> str:
    torch = next((each for each in _requirements(folder) if each.name == "torch"), None)
    if torch is None:
        raise Unfit("requirements.txt names no torch: add torch>=2.8.")
    fit = [version for version in ZERO_GPU_TORCH if version in torch.specifier]
    if not fit:
        raise Unfit(f"{torch} excludes all of {', '.join(ZERO_GPU_TORCH)}: loosen it.")
    return f"{torch} takes {', '.join(fit)}"


def _check_sizes(folder: Path, files: Sequence[str]) -> str:
    sizes = {name: (folder / name).stat().st_size for name in files}
    large = max(sizes, key=lambda name: sizes[name], default=None)
    if large is None:
        raise Unfit("There is no file to push: name the folder of a checkout.")
    if sizes[large] >= MAX_FILE_BYTES:
        raise Unfit(
            f"{large} has {sizes[large] / 1e6:.1f} MB, and files from 10 MB on need Xet: leave it "
            "out, or put it into a model repository."
        )
    return f"{len(files)} files, the largest {sizes[large] / 1e6:.1f} MB ({large})"


def _check_secrets(folder: Path, files: Sequence[str]) -> str:
    for name in files:
        if _SECRET_FILES.search(name):
            raise Unfit(f"{name} is a file of secrets: ignore it, and use the Space's settings.")
        if (folder / name).stat().st_size > _MAX_SCANNED_BYTES:
            continue
        content = (folder / name).read_bytes()
        for kind, pattern in _SECRETS.items():
            if pattern.search(content):
                raise Unfit(
                    f"{name} holds what looks like {kind}: remove it, revoke it, and use the "
                    "Space's settings."
                )
    return "none found"


def _check_ignored(folder: Path) -> str:
    path = folder / ".gitignore"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    ignored = {line.strip().strip("/") for line in lines}
    lacking = [name for name in _IGNORED if name not in ignored]
    if lacking:
        raise Unfit(f".gitignore does not name {lacking[0]}: add a line for it.")
    return ", ".join(_IGNORED)


def _check_build(folder: Path) -> str:
    """Build the page as a Space does, from the checkout, on a fresh home."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {
            "SPACE_ID": "someone/dflash-studio",
            "DFLASH_APP_HOME": home,
            "DFLASH_APP_PUBLIC": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_OFFLINE": "1",
        }
        done = subprocess.run(  # noqa: S603 our own code
            [sys.executable, "-c", _BUILD],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    said = (done.stdout if done.stdout.strip() else done.stderr).strip().splitlines()
    last = said[-1][:300] if said else "it says nothing"
    if done.returncode != 0:
        raise Unfit(f"It cannot be built ({last}): run `python app.py` with SPACE_ID=x to see.")
    return f"built, offering {last}"


def _check_resolution(folder: Path) -> str:
    front = _front_matter(folder)
    torch = ZERO_GPU_TORCH[0]
    # What a Space adds by itself, besides the torch that ZeroGPU runs.
    also = (f"torch=={torch}", "spaces", f"gradio[oauth,mcp]=={front.sdk_version}")
    try:
        found = resolve_requirements(folder / "requirements.txt", also, ZERO_GPU_PYTHON)
    except CannotResolve as error:
        raise Unfit(
            f"For Python {ZERO_GPU_PYTHON} with {', '.join(also)} pip says: {error}. Loosen the "
            "requirement that it names, or try again with a network."
        ) from error
    return f"{len(found)} packages, transformers {found.get('transformers', 'absent')}"


def _front_matter(folder: Path) -> FrontMatter:
    try:
        return read_front_matter(folder / "README.md")
    except ValueError as error:
        raise Unfit(str(error)) from error


def _project(folder: Path) -> dict[str, object]:
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        project: dict[str, object] = tomllib.loads(text)["project"]
    except (OSError, ValueError, KeyError) as error:
        raise Unfit(
            f"pyproject.toml cannot be read ({error}): take it from the repository."
        ) from error
    return project


def _dependencies(folder: Path) -> list[str]:
    named = _project(folder).get("dependencies")
    return [str(each) for each in named] if isinstance(named, list) else []


def _requirements(folder: Path) -> list[Requirement]:
    return [Requirement(line) for line in _lines(folder / "requirements.txt")]


def _pins(folder: Path) -> dict[str, str]:
    """The tested version of each package, by its normal name."""
    pins: dict[str, str] = {}
    for line in _lines(folder / "constraints.txt"):
        pinned = Requirement(line)
        exact = [each.version for each in pinned.specifier if each.operator == "=="]
        pins |= {_normal(pinned.name): version for version in exact}
    return pins


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Unfit(f"{path.name} cannot be read ({error.strerror}): a Space needs it.") from error
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")
