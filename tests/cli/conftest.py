"""A pair that plays a script, brought in the way any stranger would: registry file and plugin."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from dflash_app.plugins import mount_folders
from dflash_app.settings import Settings
from tests.fakes import Script, ScriptedPair

PLUGIN = """
from dflash_app.hookspecs import hookimpl

class ScriptBackend:
    name = "script"
    pair = None
    options = []

    def unavailable_reason(self):
        return None

    def load(self, pair, options):
        self.options.append(options)
        return self.pair

    def load_beside(self, pair, options, host):
        return self.load(pair, options)

backend = ScriptBackend()

@hookimpl
def register_backends():
    return [backend]
"""

REGISTRY = """
pairs:
  - name: scripted
    title: A script
    family: none
    target: {{path: {folder}}}
    drafter: {{path: {folder}}}
    backends: [script]
"""


def write_scripted_pair(settings: Settings, plugin: str = PLUGIN) -> None:
    """Put the pair `scripted` and its backend into a data folder."""
    folder = settings.home / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    settings.user_registry.write_text(REGISTRY.format(folder=folder))
    package = settings.user_plugins / "scripted"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(plugin)


@pytest.fixture
def play(settings: Settings) -> Callable[..., ScriptedPair]:
    """Call it with the scripts that the pair `scripted` is to play."""
    write_scripted_pair(settings)
    sys.modules.pop("dflash_plugins.scripted", None)
    mount_folders(settings)
    backend = import_module("dflash_plugins.scripted").backend

    def set_scripts(*scripts: Script) -> ScriptedPair:
        backend.pair = ScriptedPair(scripts, name="scripted")
        backend.pair.load_options = backend.options
        return backend.pair  # type: ignore[no-any-return]

    return set_scripts


@pytest.fixture
def root() -> Path:
    """The repository."""
    return Path(__file__).parent.parent.parent
