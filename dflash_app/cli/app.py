"""The command line: which commands there are, and how every one of them ends."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import dflash_app
from dflash_app.cli import terminal
from dflash_app.cli.doctor import doctor
from dflash_app.cli.generate import generate
from dflash_app.cli.hub import hub_app
from dflash_app.cli.inspect import inspect
from dflash_app.cli.pairs import pairs_app
from dflash_app.cli.runs import runs_app
from dflash_app.cli.serve_plan import serve_plan
from dflash_app.cli.space import space_app
from dflash_app.errors import DFlashAppError
from dflash_app.plugins import Plugins, load_plugins
from dflash_app.settings import load_settings

EXIT_FAILED = 1


def build_app(plugins: Plugins) -> typer.Typer:
    """Put the commands together, the plugins' last."""
    app = typer.Typer(
        name="dflash-app",
        help=dflash_app.__doc__,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    app.command()(generate)
    app.add_typer(runs_app, name="runs")
    app.add_typer(pairs_app, name="pairs")
    app.add_typer(hub_app, name="hub")
    app.add_typer(space_app, name="space")
    app.command()(inspect)
    app.command()(doctor)
    app.command("serve-plan")(serve_plan)
    plugins.hook.register_commands(app)
    return app


def run_app(arguments: Sequence[str] | None) -> int:
    """Run a command and turn every way it can end, but Ctrl-C, into an exit status."""
    terminal.survive_any_text()
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        terminal.close_stdout()
        return EXIT_FAILED
    return status


def _run(arguments: Sequence[str] | None) -> int:
    try:
        build_app(load_plugins(load_settings()))(arguments, prog_name="dflash-app")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else EXIT_FAILED
    except DFlashAppError as error:
        terminal.note(f"Error: {error}")
        return EXIT_FAILED
    return 0


def _show_version(asked: bool) -> None:
    if asked:
        print(dflash_app.__version__)
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass
