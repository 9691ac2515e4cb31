"""Paths and environment, read once; finds the data that ships with the app."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from dflash_app.errors import DFlashAppError

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
    """

    home: Path
    database: Path
    user_registry: Path
    user_plugins: Path
    plugins_enabled: bool = True
    local_folders: bool | None = None


def load_settings(home: Path | None = None) -> Settings:
    """Read the environment: DFLASH_APP_HOME, DFLASH_APP_NO_PLUGINS, DFLASH_APP_LOCAL_FOLDERS.

    Args:
        home: overrides the environment.
    """
    if home is None:
        named = os.environ.get("DFLASH_APP_HOME")
        home = Path(named) if named else Path(platformdirs.user_data_dir("dflash-studio", False))
    home = home.expanduser().absolute()
    folders = os.environ.get("DFLASH_APP_LOCAL_FOLDERS", "")
    return Settings(
        home=home,
        database=home / "runs.db",
        user_registry=home / "model_registry.yaml",
        user_plugins=home / "plugins",
        plugins_enabled=os.environ.get("DFLASH_APP_NO_PLUGINS", "") in ("", "0"),
        local_folders=None if folders == "" else folders != "0",
    )
