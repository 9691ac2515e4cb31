"""A workspace whose registry and backend a test wrote down."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.fakes import ScriptedBackend

PLUGIN = """
from dflash_app.hookspecs import hookimpl
from tests.fakes import ScriptedBackend

@hookimpl
def register_backends():
    return [ScriptedBackend("script"), ScriptedBackend("absent", reason="Install it first.")]
"""

ROW = """
- name: {name}
  title: {name}
  family: test
  target: {{path: {target}}}
  drafter: {{path: {drafter}}}
  backends: [{backends}]
"""


def make_model(folder: Path) -> Path:
    """Files that look complete to the cache; the scripted backend never reads them."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def home_with_pairs(settings: Settings, tmp_path: Path) -> Settings:
    target, other = make_model(tmp_path / "target"), make_model(tmp_path / "other")
    drafter, second = make_model(tmp_path / "drafter"), make_model(tmp_path / "second")
    gone = tmp_path / "gone"
    rows = [
        ("one", target, drafter, "script"),
        ("one-more", target, second, "script"),
        ("two", other, drafter, "absent, script"),
        ("no-drafter-yet", target, gone, "script"),
        ("not-here", gone, gone, "script"),
        ("elsewhere", target, drafter, "vllm"),
        ("only-absent", target, drafter, "absent"),
    ]
    text = "".join(
        ROW.format(name=name, target=target, drafter=drafter, backends=backends)
        for name, target, drafter, backends in rows
    )
    settings.user_registry.write_text(f"pairs:{text}")
    (settings.user_plugins / "scripted").mkdir(parents=True)
    (settings.user_plugins / "scripted" / "__init__.py").write_text(PLUGIN)
    return settings


@pytest.fixture
def workspace(home_with_pairs: Settings) -> Iterator[Workspace]:
    opened = open_workspace(home_with_pairs)
    assert opened.registry.problems == ()
    yield opened
    opened.close()


def script_backend(workspace: Workspace) -> ScriptedBackend:
    found = workspace.backends()["script"]
    assert type(found).__name__ == "ScriptedBackend"
    return found  # type: ignore[return-value]
