"""`dflash-app space`: whether a checkout is fit for a Hugging Face Space."""

from pathlib import Path
from typing import Annotated

import typer

from dflash_app.cli import terminal
from dflash_app.settings import PACKAGE_DIR

space_app = typer.Typer(
    help="Prepare a Hugging Face Space; docs/spaces.md walks through it.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@space_app.callback()
def _space() -> None:
    pass


@space_app.command("check")
def check_space(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Of the checkout; the one that this command runs from unless given."),
    ] = None,
    build: Annotated[
        bool, typer.Option("--build/--no-build", help="Build the page too, which takes seconds.")
    ] = True,
    resolve: Annotated[
        bool,
        typer.Option(
            "--resolve/--no-resolve",
            help="Ask the package index what ZeroGPU would install, which takes a minute.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Tell whether a checkout can be pushed; status 1 if not."""
    from dflash_app.spaces.check import check_checkout

    looked_at = folder or PACKAGE_DIR.parent
    if not (looked_at / "app.py").is_file():
        raise typer.BadParameter(f"{looked_at} is no checkout of this app: it has no app.py.")
    checks = list(check_checkout(looked_at.resolve(), build=build, resolve=resolve))
    ok = all(check.ok for check in checks)
    if as_json:
        terminal.print_json({"ok": ok, "checks": checks})
    else:
        rows = [("pass" if check.ok else "FAIL", check.name, check.detail) for check in checks]
        terminal.print_table(("", "what", "found"), rows)
    raise typer.Exit(0 if ok else 1)
