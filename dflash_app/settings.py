"""Paths and environment, read once; finds the data that ships with the app."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from dflash_app.errors import DFlashAppError, ServeError

PACKAGE_DIR = Path(__file__).resolve().parent
EMBEDDED_DIR = PACKAGE_DIR / "embedded"
"""The shipped pair: `target/` and `drafter/`."""


def find_bundled(name: str) -> Path:
    """Find `plugins` or `model_registry.yaml` in a checkout or in an installed wheel.

    Args:
        name: a name at the top level of the repository.

    Returns:
        The path beside the package (checkout, editable install), else the one inside it (wheel).

    Raises:
        DFlashAppError: it is in neither place.
    """
    for parent in (PACKAGE_DIR.parent, PACKAGE_DIR / "bundled"):
        candidate = parent / name
        # site-packages may hold someone else's "plugins": only our checkout has app.py beside it.
        if candidate.exists() and (parent.name == "bundled" or (parent / "app.py").exists()):
            return candidate
    raise DFlashAppError(f"{name} is missing from this installation: install the app again.")


@dataclass(frozen=True, slots=True)
class PublicLimits:
    """What a visitor of a public page may ask for.

    Attributes:
        max_new_tokens: of one reply.
        max_prompt_chars: of a whole conversation.
        max_waiting: requests that may wait for the device before more are refused.
        max_per_visitor: requests of one visitor that may wait or decode at once.
        max_per_hour: runs that one visitor may begin in an hour.
    """

    max_new_tokens: int = 1024
    max_prompt_chars: int = 20_000
    max_waiting: int = 24
    max_per_visitor: int = 2
    max_per_hour: int = 120


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are and what the environment asks for.

    Attributes:
        home: the user's folder: run database, own registry, own plugins.
        database: the run log.
        user_registry: the user's own pairs; may be absent.
        user_plugins: the user's own plugins; may be absent.
        plugins_enabled: False with DFLASH_APP_NO_PLUGINS=1.
        local_folders: whether the page may name folders of this machine, by
            DFLASH_APP_LOCAL_FOLDERS=1 or 0; None where only this machine reaches the page.
        public: the limits of a page for strangers, who see only what is their own; None on one's
            own machine. On where Hugging Face's SPACE_ID is set, or by DFLASH_APP_PUBLIC=1 or 0.
        pairs: names of the pairs that are offered, by DFLASH_APP_PAIRS=a,b; None offers all.
        bucket: a mounted folder that keeps copies of the run log, by DFLASH_APP_BUCKET.
        keep_days: after how many days conversations and runs are deleted, by DFLASH_APP_KEEP_DAYS;
            None keeps them. 30 on a public page.
        mcp: whether the page's API is a server of the Model Context Protocol too.
    """

    home: Path
    database: Path
    user_registry: Path
    user_plugins: Path
    plugins_enabled: bool = True
    local_folders: bool | None = None
    public: PublicLimits | None = None
    pairs: tuple[str, ...] | None = None
    bucket: Path | None = None
    keep_days: int | None = None
    mcp: bool = False


_LARGEST = 1_000_000
"""Of a limit: more than any request may ask for."""
_PUBLIC_DAYS = 30


def load_settings(home: Path | None = None) -> Settings:
    """Read the environment: docs/spaces.md lists every variable.

    Args:
        home: overrides the environment.

    Raises:
        ServeError: a limit is no number.
    """
    if home is None:
        named = os.environ.get("DFLASH_APP_HOME")
        home = Path(named) if named else Path(platformdirs.user_data_dir("dflash-studio", False))
    home = home.expanduser().absolute()
    folders = os.environ.get("DFLASH_APP_LOCAL_FOLDERS", "")
    bucket = os.environ.get("DFLASH_APP_BUCKET", "")
    public = _read_limits() if _is_on("DFLASH_APP_PUBLIC", "SPACE_ID") else None
    return Settings(
        home=home,
        database=home / "runs.db",
        user_registry=home / "model_registry.yaml",
        user_plugins=home / "plugins",
        plugins_enabled=not _is_on("DFLASH_APP_NO_PLUGINS"),
        local_folders=None if folders == "" else folders != "0",
        public=public,
        pairs=_read_names("DFLASH_APP_PAIRS"),
        bucket=Path(bucket).absolute() if bucket else None,
        keep_days=_read_days(_PUBLIC_DAYS if public else 0),
        mcp=_is_on("DFLASH_APP_MCP"),
    )


def _is_on(variable: str, default: str = "") -> bool:
    """Whether a variable, or where it is not set another one, says anything but 0."""
    named = os.environ.get(variable, "")
    return (named or os.environ.get(default, "")) not in ("", "0")


def _read_names(variable: str) -> tuple[str, ...] | None:
    names = [name.strip() for name in os.environ.get(variable, "").split(",")]
    return tuple(dict.fromkeys(filter(None, names))) or None


def _read_limits() -> PublicLimits:
    """The limits, each by DFLASH_APP_ and its name in capitals."""
    usual = asdict(PublicLimits())
    return PublicLimits(**{name: _read_number(name, number) for name, number in usual.items()})


def _read_days(default: int) -> int | None:
    """How long to keep what is logged; 0 is for good."""
    return _read_number("keep_days", default, smallest=0) or None


def _read_number(name: str, default: int, *, smallest: int = 1) -> int:
    variable = f"DFLASH_APP_{name.upper()}"
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not smallest <= int(text[:10]) <= _LARGEST:
        raise ServeError(
            f"{variable} is {text[:40]!r}: set it to a number from {smallest} to {_LARGEST:,}."
        )
    return int(text)
