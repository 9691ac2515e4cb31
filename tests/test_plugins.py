"""Plugins are found in order, under one name, and a broken one never stops the app."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer

from dflash_app import plugins as loader
from dflash_app.errors import PluginError
from dflash_app.hookspecs import Dataset, Tab
from dflash_app.plugins import PluginProblem, Plugins, load_plugins
from dflash_app.settings import Settings, load_settings

TAB = """
from dflash_app.hookspecs import Tab, hookimpl

@hookimpl
def register_tabs():
    return [Tab({title!r}, {order}, "dflash_plugins.{name}.tab:build")]
"""


@pytest.fixture(autouse=True)
def no_shipped_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Path:
    """An empty folder in place of `plugins/`, and no built-ins: a test adds what it needs."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(loader, "find_bundled", lambda name: folder)
    monkeypatch.setattr(loader, "BUILTINS", ())
    return folder


def add_plugin(root: Path, name: str, source: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(source, encoding="utf-8")
    return folder


def only_problem(plugins: Plugins) -> PluginProblem:
    (problem,) = plugins.problems
    return problem


def test_shipped_comes_before_user_before_entry_point(
    no_shipped_plugins: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_plugin(no_shipped_plugins, "zeta", TAB.format(title="Z", order=5, name="zeta"))
    add_plugin(settings.user_plugins, "alpha", TAB.format(title="A", order=5, name="alpha"))
    (tmp_path / "installed_one.py").write_text(TAB.format(title="I", order=1, name="x"))
    monkeypatch.syspath_prepend(str(tmp_path))
    entry_point = EntryPoint("third", "installed_one", loader.ENTRY_POINT_GROUP)
    monkeypatch.setattr(loader, "entry_points", lambda group: [entry_point])
    plugins = load_plugins(settings)
    assert plugins.problems == []
    assert plugins.names == ["dflash_plugins.zeta", "dflash_plugins.alpha", "third"]
    assert [tab.title for tab in plugins.hook.register_tabs()] == ["I", "Z", "A"]


def test_plugin_imports_its_own_modules_by_both_names(settings: Settings) -> None:
    source = "from . import tab\nfrom dflash_plugins.both import tab as same\nassert tab is same\n"
    folder = add_plugin(
        settings.user_plugins, "both", source + TAB.format(title="B", order=1, name="both")
    )
    (folder / "tab.py").write_text("def build(workspace): return 41\n")
    plugins = load_plugins(settings)
    assert plugins.names == ["dflash_plugins.both"], plugins.problems


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library", "No module named 'no_such_library'"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("raise RuntimeError('out of cheese')", "RuntimeError: out of cheese"),
        ("x = 1", "implements no hook"),
        (
            "from dflash_app.hookspecs import hookimpl\n@hookimpl\ndef register_tables(): pass",
            "register_tables",
        ),
        (
            "from dflash_app.hookspecs import hookimpl\n@hookimpl\ndef register_tabs(page): pass",
            "page",
        ),
    ],
)
def test_broken_plugin_is_listed_with_its_reason_and_the_next_one_loads(
    settings: Settings, source: str, reason: str
) -> None:
    add_plugin(settings.user_plugins, "broken", source)
    add_plugin(settings.user_plugins, "sound", TAB.format(title="S", order=1, name="sound"))
    plugins = load_plugins(settings)
    assert plugins.names == ["dflash_plugins.sound"]
    assert only_problem(plugins).name == "dflash_plugins.broken"
    assert reason in only_problem(plugins).reason
    assert [tab.title for tab in plugins.hook.register_tabs()] == ["S"]


@pytest.mark.parametrize(
    "body", ["1 / 0", "return None", "return ['a tab']", "return (Tab('T', 1, 'a:b'),)"]
)
def test_hook_that_fails_or_returns_nonsense_is_listed_once_and_others_count(
    settings: Settings, body: str
) -> None:
    head = "from dflash_app.hookspecs import Tab, hookimpl\n@hookimpl\ndef register_tabs():\n    "
    add_plugin(settings.user_plugins, "a_bad", head + body)
    add_plugin(settings.user_plugins, "good", TAB.format(title="G", order=1, name="good"))
    plugins = load_plugins(settings)
    for _ in range(2):
        assert [tab.title for tab in plugins.hook.register_tabs()] == ["G"]
    assert only_problem(plugins).name == "dflash_plugins.a_bad"


def test_every_hook_reaches_its_caller(settings: Settings) -> None:
    source = """
from pathlib import Path
from dflash_app.hookspecs import Dataset, Tab, hookimpl

class Nothing:
    name = "nothing"
    def unavailable_reason(self): return "it is nothing"
    def load(self, pair, options): raise NotImplementedError

@hookimpl
def register_backends(): return [Nothing()]
@hookimpl
def register_pairs(): return [Path("more.yaml")]
@hookimpl
def register_tabs(): return [Tab("T", 1, "a:b")]
@hookimpl
def register_datasets(): return [Dataset("d", "a set", "a:b")]
@hookimpl
def register_commands(app):
    @app.command()
    def hello(): print("hello")
"""
    add_plugin(settings.user_plugins, "all_five", source)
    plugins = load_plugins(settings)
    app = typer.Typer()
    plugins.hook.register_commands(app)
    assert [
        command.callback.__name__ for command in app.registered_commands if command.callback
    ] == ["hello"]
    assert [backend.name for backend in plugins.hook.register_backends()] == ["nothing"]
    assert plugins.hook.register_pairs() == [Path("more.yaml")]
    assert plugins.hook.register_tabs() == [Tab("T", 1, "a:b")]
    assert plugins.hook.register_datasets() == [Dataset("d", "a set", "a:b")]
    assert plugins.problems == []


def test_folders_that_cannot_be_plugins_name_the_cure(settings: Settings) -> None:
    (settings.user_plugins / "left_by_git" / "__pycache__").mkdir(parents=True)
    (settings.user_plugins / "headless").mkdir()
    (settings.user_plugins / "headless" / "tab.py").write_text("")
    add_plugin(settings.user_plugins, "two-words", "")
    add_plugin(settings.user_plugins, "_draft", "1 / 0")
    add_plugin(settings.user_plugins, ".git", "1 / 0")
    (settings.user_plugins / "notes.txt").write_text("not a plugin")
    reasons = {problem.name: problem.reason for problem in load_plugins(settings).problems}
    assert reasons.keys() == {"dflash_plugins.headless", "dflash_plugins.two-words"}
    assert "has no __init__.py" in reasons["dflash_plugins.headless"]
    assert "rename the folder" in reasons["dflash_plugins.two-words"]


def test_second_plugin_of_one_name_is_reported_and_the_shipped_one_stays(
    no_shipped_plugins: Path, settings: Settings
) -> None:
    add_plugin(no_shipped_plugins, "twin", TAB.format(title="shipped", order=1, name="twin"))
    add_plugin(settings.user_plugins, "twin", TAB.format(title="user", order=1, name="twin"))
    plugins = load_plugins(settings)
    assert [tab.title for tab in plugins.hook.register_tabs()] == ["shipped"]
    assert "rename the folder" in only_problem(plugins).reason


def test_opting_out_loads_built_ins_only(
    settings: Settings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_plugin(settings.user_plugins, "loud", "raise RuntimeError('must not be imported')")
    monkeypatch.setenv("DFLASH_APP_NO_PLUGINS", "1")
    plugins = load_plugins(load_settings())
    assert (plugins.names, plugins.problems) == ([], [])


def test_missing_plugins_folder_is_no_problem(
    no_shipped_plugins: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Path:
        raise PluginError("gone")

    monkeypatch.setattr(loader, "find_bundled", missing)
    plugins = load_plugins(settings)
    assert (plugins.names, plugins.problems) == ([], [])


def test_attempt_is_the_door_for_tab_code(settings: Settings) -> None:
    plugins = load_plugins(settings)
    assert plugins.attempt("Chat", lambda: 5) == 5
    assert plugins.attempt("Hello", lambda: {}["missing"]) is None
    assert only_problem(plugins) == PluginProblem("Hello", "KeyError: 'missing'")


def test_built_ins_load_without_torch_transformers_or_gradio(home: Path) -> None:
    code = (
        "import sys\n"
        "from dflash_app.plugins import load_plugins\n"
        "from dflash_app.settings import load_settings\n"
        "plugins = load_plugins(load_settings())\n"
        "assert not plugins.problems, plugins.problems\n"
        "plugins.hook.register_tabs(), plugins.hook.register_pairs()\n"
        "heavy = {'torch', 'transformers', 'gradio', 'plotly', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
