"""Servers: pairs that vLLM, SGLang, llama.cpp or another OpenAI-compatible server runs."""

from typing import TYPE_CHECKING, Any

from dflash_app.engine.protocol import Backend
from dflash_app.hookspecs import Tab, hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def register_backends() -> list[Backend[Any]]:
    """The way to them."""
    from .backend import RemoteBackend

    return [RemoteBackend()]


@hookimpl
def register_tabs() -> list[Tab]:
    """Servers stands beside the hub: both say which pairs there are."""
    return [Tab("Servers", 25, f"{__name__}.tab:build", {"zh": "服务器"})]


@hookimpl
def register_commands(app: "typer.Typer") -> None:
    """`dflash-app servers`."""
    from .commands import servers_app

    app.add_typer(servers_app, name="servers")
