"""Find plugins, load them in order, and keep a broken one from stopping the app.

Order: built-in modules, the `plugins/` folder that ships with the app, the user's own folder, then
installed entry points of the group `dflash_app`. Plugin folders are imported under one synthetic
package, so `plugins/compare` is `dflash_plugins.compare` in a checkout, an editable install and a
wheel alike, although no folder beside a package is importable and no metadata need be installed.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from importlib.util import module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from dflash_app import hookspecs
from dflash_app.engine.protocol import Backend
from dflash_app.errors import DFlashAppError, PluginError
from dflash_app.hookspecs import Dataset, Tab
from dflash_app.settings import Settings, find_bundled

if TYPE_CHECKING:
    import typer

BUILTINS = (
    "dflash_app.backends.torch.builtin",
    "dflash_app.backends.mlx.builtin",
    "dflash_app.ui.builtin",
    "dflash_app.training.builtin",
)
FOLDER_PACKAGE = "dflash_plugins"
ENTRY_POINT_GROUP = "dflash_app"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PluginProblem:
    """A plugin that is left out, wholly or in part, and why."""

    name: str
    reason: str


class Hooks:
    """Calls each hook on every plugin, in the order of loading, and joins what they return.

    Unlike pluggy's own callers, one plugin that fails is listed and the others still count.
    """

    def __init__(self, plugins: "Plugins") -> None:
        self._plugins = plugins

    def register_backends(self) -> list[Backend[Any]]:
        """All backends."""
        return self._collect("register_backends", _is_backend)

    def register_pairs(self) -> list[Path]:
        """All extra registry files."""
        return self._collect("register_pairs", lambda item: isinstance(item, Path))

    def register_tabs(self) -> list[Tab]:
        """All tabs, by their `order`."""
        tabs: list[Tab] = self._collect("register_tabs", lambda item: isinstance(item, Tab))
        return sorted(tabs, key=lambda tab: tab.order)

    def register_commands(self, app: "typer.Typer") -> None:
        """Let every plugin add its commands."""
        for name, call in self._plugins.calls("register_commands", app=app):
            self._plugins.attempt(name, call)

    def register_datasets(self) -> list[Dataset]:
        """All datasets."""
        return self._collect("register_datasets", lambda item: isinstance(item, Dataset))

    def _collect(self, hook: str, fits: Callable[[Any], bool]) -> list[Any]:
        found: list[Any] = []
        for name, call in self._plugins.calls(hook):
            found += self._plugins.attempt(name, partial(_checked_call, call, hook, fits)) or []
        return found


@dataclass(slots=True)
class Plugins:
    """The plugins of this process.

    Attributes:
        names: plugins that were loaded, in order.
        problems: what was left out and why; grows while hooks are called.
        hook: calls the hooks.
    """

    manager: pluggy.PluginManager
    names: list[str] = field(default_factory=list)
    problems: list[PluginProblem] = field(default_factory=list)

    @property
    def hook(self) -> Hooks:
        return Hooks(self)

    def attempt(self, name: str, call: Callable[[], T]) -> T | None:
        """Run code of a plugin; where it fails, list the plugin with the reason instead.

        This is the door between the app and plugin code: build a tab or load a dataset through it.

        Args:
            name: the plugin, or the tab or dataset that is being built.
            call: what to run.

        Returns:
            What `call` returned, or None where it failed.
        """
        try:
            return call()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a door: foreign code must not stop the app
            problem = PluginProblem(name, _reason(error))
            if problem not in self.problems:
                self.problems.append(problem)
            return None

    def calls(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield (plugin name, call) for every implementation of `hook`, in the order of loading."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            chosen = {name: arguments[name] for name in implementation.argnames}
            yield implementation.plugin_name, partial(implementation.function, **chosen)

    def add(self, name: str, load: Callable[[], object]) -> None:
        """Import and register one plugin, or list why it cannot be."""
        if self.attempt(name, lambda: self._register(name, load())):
            self.names.append(name)

    def _register(self, name: str, plugin: object) -> bool:
        self.manager.register(plugin, name)
        try:
            self.manager.check_pending()
            _check_hooks(name, self.manager.get_hookcallers(plugin))
        except Exception:
            self.manager.unregister(plugin)
            raise
        return True


def load_plugins(settings: Settings) -> Plugins:
    """Load the built-ins and, unless the user opted out, every plugin that is found.

    Args:
        settings: names the user's folder; `plugins_enabled` False leaves the built-ins only.

    Returns:
        What was loaded, and a problem for each plugin that was not.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    for name in BUILTINS:
        plugins.add(name, partial(import_module, name))
    if settings.plugins_enabled:
        mount_folders(settings)
        for root in _plugin_roots(settings):
            for folder in plugins.attempt(str(root), partial(_plugin_folders, root)) or []:
                name = f"{FOLDER_PACKAGE}.{folder.name}"
                plugins.add(name, partial(_import_folder, folder))
        for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name):
            plugins.add(entry_point.name, entry_point.load)
    return plugins


def mount_folders(settings: Settings) -> None:
    """Make `dflash_plugins` importable: its path is every plugin folder that exists."""
    package = sys.modules.get(FOLDER_PACKAGE)
    if package is None:
        package = module_from_spec(ModuleSpec(FOLDER_PACKAGE, None, is_package=True))
        sys.modules[FOLDER_PACKAGE] = package
    package.__path__ = [str(root) for root in _plugin_roots(settings)]


def _plugin_roots(settings: Settings) -> list[Path]:
    try:
        roots = [find_bundled("plugins")]
    except DFlashAppError:  # deleting plugins/ is allowed: the app is whole without it
        roots = []
    return [root for root in (*roots, settings.user_plugins) if root.is_dir()]


def _plugin_folders(root: Path) -> list[Path]:
    # What git leaves of a removed plugin is a folder of bytecode: no Python file, no plugin.
    return [
        folder
        for folder in sorted(root.iterdir())
        if not folder.name.startswith(("_", ".")) and any(folder.glob("*.py"))
    ]


def _import_folder(folder: Path) -> object:
    if not folder.name.isidentifier():
        raise PluginError(f"{folder.name!r} is no Python name: rename the folder {folder}.")
    if not (folder / "__init__.py").is_file():
        raise PluginError(f"{folder} has no __init__.py: add one with the plugin's hooks.")
    found = next(
        Path(root, folder.name)
        for root in sys.modules[FOLDER_PACKAGE].__path__
        if Path(root, folder.name, "__init__.py").is_file()
    )
    if found != folder:
        raise PluginError(f"{folder} has the name of the plugin in {found}: rename the folder.")
    name = f"{FOLDER_PACKAGE}.{folder.name}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ != str(folder / "__init__.py"):
        for stale in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            del sys.modules[stale]
    return import_module(name)


def _is_backend(item: object) -> bool:
    return isinstance(getattr(item, "name", None), str) and callable(getattr(item, "load", None))


def _check_hooks(name: str, callers: list[pluggy.HookCaller] | None) -> None:
    if not callers:
        raise PluginError(f"{name} implements no hook: mark a function with @hookimpl.")


def _checked_call(call: Callable[[], Any], hook: str, fits: Callable[[Any], bool]) -> list[Any]:
    items = call()
    if not isinstance(items, list) or not all(fits(item) for item in items):
        raise PluginError(
            f"{hook} returned {items!r}: return a list as docs/plugin-hooks.md shows."
        )
    return items


def _reason(error: BaseException) -> str:
    if isinstance(error, DFlashAppError):
        return str(error)
    return f"{type(error).__name__}: {error}"
