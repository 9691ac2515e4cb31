"""What every test may rely on: a home folder of its own, and importable plugins."""

import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from dflash_app.plugins import mount_folders
from dflash_app.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh data folder: no test reads or writes the user's own."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DFLASH_APP_HOME", str(folder))
    monkeypatch.delenv("DFLASH_APP_NO_PLUGINS", raising=False)
    return folder


@pytest.fixture
def settings(home: Path) -> Iterator[Settings]:
    """The settings of that folder; plugin folders of other tests are forgotten afterwards."""
    found = load_settings()
    yield found
    mount_folders(load_settings())


def pytest_configure() -> None:
    """Make `dflash_plugins.compare` importable for the tests of plugins."""
    mount_folders(load_settings())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """After each file, leave what is still here, libraries above all, out of Python's collector.

    Every closing pair collects what it left. Walking through the million objects that stay was most
    of what it took.
    """
    yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()
