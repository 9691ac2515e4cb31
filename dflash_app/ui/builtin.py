"""What the page itself adds through the hooks: its own tabs and `dflash-app serve`."""

from typing import TYPE_CHECKING, Annotated

from dflash_app.hookspecs import Tab, hookimpl

if TYPE_CHECKING:
    import typer


@hookimpl
def register_tabs() -> list[Tab]:
    """Chat comes first."""
    return [
        Tab("Chat", 0, "dflash_app.ui.tabs.chat:build", {"zh": "对话"}),
        Tab("Hub", 20, "dflash_app.ui.tabs.hub:build", {"zh": "模型库"}),
    ]


@hookimpl
def register_commands(app: "typer.Typer") -> None:
    """Add `serve`."""
    import typer

    @app.command()
    def serve(
        host: Annotated[
            str | None, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")
        ] = None,
        port: Annotated[int | None, typer.Option(help="Port, 7860 unless given.")] = None,
        show: Annotated[
            bool, typer.Option("--open/--no-open", help="Open the page in the browser.")
        ] = False,
    ) -> None:
        """Serve the page: chat, race, run log."""
        from dflash_app.ui.serve import serve as serve_page
        from dflash_app.workspace import open_workspace

        serve_page(open_workspace(), host, port, open_browser=show)
