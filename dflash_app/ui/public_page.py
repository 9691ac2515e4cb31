"""What is other about a page that strangers use: what is placed before, how it is served."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from dflash_app.errors import HubError, ServeError
from dflash_app.settings import Settings
from dflash_app.spaces.visitors import GiveKeys
from dflash_app.spaces.zero_gpu import on_zero_gpu
from dflash_app.ui.live import DeviceTurn
from dflash_app.ui.own_machine import OnlyOwnNames
from dflash_app.workspace import Workspace

DEFAULT_HOST = "127.0.0.1"

_HIDING_CSS = """
#precision, #device, #backend, #hub-care { display: none !important; }
"""
"""What a visitor may not change; the server refuses it all the same."""


def default_host() -> str:
    """This machine only, but on a Space, whose page is reached from outside its container."""
    return "0.0.0.0" if os.environ.get("SPACE_ID") else DEFAULT_HOST  # noqa: S104


def hiding_css(settings: Settings) -> str:
    """Rules that hide what a public page does not offer."""
    return "" if settings.public is None else _HIDING_CSS


def prepare(workspace: Workspace) -> None:
    """Bring and place what the page offers, before it is launched; only a public page needs it.

    Raises:
        DFlashAppError: a pair that DFLASH_APP_PAIRS names cannot be downloaded or placed.
    """
    if workspace.settings.public is None:
        return
    for pair in workspace.pairs():
        if workspace.state(pair.name).status == "needs download":
            print(f"Downloading {pair.name} …", flush=True)
            _download(workspace, pair.name)
        if on_zero_gpu() and workspace.state(pair.name).status == "ready":
            print(f"Placing {pair.name} on the GPU …", flush=True)
            workspace.loaded(pair.name)


def line_of(settings: Settings) -> DeviceTurn:
    """The line before the device, as long as the settings let it be."""
    if settings.public is None:
        return DeviceTurn()
    return DeviceTurn(settings.public.max_waiting, settings.public.max_per_visitor)


def app_arguments(settings: Settings, *, own: bool, shared: Callable[[], bool]) -> dict[str, Any]:
    """What FastAPI is told: who may ask.

    Args:
        settings: on a public page each visitor gets a key.
        own: the page is for this machine only, and its user has not said who else may reach it.
        shared: whether Gradio shares it all the same.
    """
    from starlette.middleware import Middleware

    if settings.public is not None:
        return {"middleware": [Middleware(GiveKeys)]}
    if own and settings.local_folders is None:
        return {"middleware": [Middleware(OnlyOwnNames, shared=shared)]}
    return {}


def check_mcp(settings: Settings) -> None:
    """Refuse to serve the Model Context Protocol without its package.

    Raises:
        ServeError: it is asked for and not installed.
    """
    if settings.mcp and find_spec("mcp") is None:
        raise ServeError(
            "DFLASH_APP_MCP needs a package that is not installed: run `pip install "
            "'dflash-studio[mcp]'`, or unset the variable."
        )


def _download(workspace: Workspace, name: str) -> None:
    hub = workspace.hub
    begun = hub.download(name)
    *_, job = [begun, *hub.jobs.watch(begun.id)]
    if job.state != "done":
        raise HubError(f"{name} could not be downloaded: {job.message or job.state}")
