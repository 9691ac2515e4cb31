"""The embedded pair on a real vLLM, twice: with DFlash and plainly. `make vllm` installs it."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from dflash_app.settings import load_settings
from dflash_app.workspace import Workspace, open_workspace
from tests.served.running_vllm import KEY, MODEL, NUM_DRAFTS, Served, start_both

HERE = Path(__file__).parent
MISSING = (
    "Nothing is asked of a real vLLM: it is not installed. `make vllm` does so on Linux x86_64."
)
PAIR = "served"
LACKING = "lacking"
"""A pair whose model the server does not have."""

MAX_TEST_S = 600
"""Of the first test, which waits for both servers."""

_missing = pytest.StashKey[bool]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if HERE in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.timeout(MAX_TEST_S))
    # In CI they are run whatever is missing, and fail.
    config.stash[_missing] = bool(mine) and not _is_installed() and not os.environ.get("CI")
    if config.stash[_missing]:
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if item not in mine]


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    return MISSING if config.stash.get(_missing, False) else None


@dataclass(frozen=True, slots=True)
class Servers:
    """The same target twice."""

    dflash: Served
    plain: Served


@pytest.fixture(scope="package")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    if not _is_installed():
        pytest.fail(MISSING)
    with start_both(_python(), tmp_path_factory.mktemp("vllm")) as (dflash, plain):
        yield Servers(dflash, plain)


@pytest.fixture(scope="package")
def served_home(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Data folder of an app whose registry knows both servers as one pair, and the key to them."""
    folder = tmp_path_factory.mktemp("served-home")
    row = {
        "name": PAIR,
        "title": "Embedded, served",
        "family": "qwen3",
        "target": {"server": servers.plain.url, "model": MODEL},
        "drafter": {"server": servers.dflash.url, "model": MODEL},
        "block_size": NUM_DRAFTS + 1,
        "backends": ["remote"],
    }
    lacking = row | {"name": LACKING, "target": {"server": servers.plain.url, "model": "other"}}
    pairs = {"pairs": [row, {**lacking, "drafter": None}]}
    (folder / "model_registry.yaml").write_text(json.dumps(pairs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFLASH_APP_SERVER_KEY", KEY)
        yield folder


@pytest.fixture(scope="package")
def workspace(served_home: Path) -> Iterator[Workspace]:
    with closing(open_workspace(load_settings(served_home))) as opened:
        yield opened


def _python() -> Path:
    """Python of vLLM's venv, where the Makefile puts it."""
    usual = Path.home() / ".cache" / "dflash-studio" / "vllm-0.32.0"
    return Path(os.environ.get("VLLM_VENV", usual)) / "bin" / "python"


def _is_installed() -> bool:
    # The Makefile's last act is to write that file.
    python = _python()
    return python.exists() and any(python.parents[1].glob("installed-*"))
