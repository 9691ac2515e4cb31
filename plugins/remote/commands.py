"""`dflash-app servers`: which pairs decode on servers, how those are, and the user's own."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dflash_app.cli import terminal
from dflash_app.errors import RequestError

from .capabilities import Capabilities

if TYPE_CHECKING:
    from .asking import Answer, Place

servers_app = typer.Typer(
    help="List servers that decode elsewhere; add and remove your own.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The pair's name.")]
Url = Annotated[str, typer.Argument(metavar="URL", help="Base address: http://gpu-box:8000/v1")]
AskKey = Annotated[
    bool,
    typer.Option(
        "--ask-key",
        help="Type the server's key; else DFLASH_APP_SERVER_KEY or the pair's own variable has it.",
    ),
]


@servers_app.command("list", hidden=True)
@servers_app.command("ls")
def list_servers(as_json: AsJson = False) -> None:
    """List the pairs on servers, and ask each server how it is."""
    from dflash_app.workspace import open_workspace

    from .asking import Standings, places_of

    with closing(open_workspace()) as workspace:
        places = [place for pair in workspace.pairs() for place in places_of(pair)]
    standings = Standings()
    for _ in standings.ask(places):
        pass
    found = [(place, standings.of(place)) for place in places]
    if as_json:
        terminal.print_json({"servers": [_as_json(*each) for each in found]})
        return
    if found:
        header = ("pair", "decodes", "server", "state", "engine", "model")
        terminal.print_table(header, [_row(*each) for each in found])
    else:
        terminal.note("No server is known: add one with `dflash-app servers add NAME URL`.")
    for place, answer in found:
        if isinstance(answer, str):
            terminal.note(f"{place.pair}: {answer}")


@servers_app.command("check")
def check_server(url: Url, ask_key: AskKey = False, as_json: AsJson = False) -> None:
    """Ask a server what it is, what it serves and what it can do; nothing is saved."""
    from .adding import ask_server

    told = ask_server(url, _typed_key(ask_key))
    if as_json:
        terminal.print_json(told)
    else:
        terminal.print_table(("what", "told"), list(_told(told)))


@servers_app.command("add")
def add(  # noqa: PLR0917 - a command's options are its parameters
    name: Name,
    url: Url,
    model: Annotated[str | None, typer.Option(help="One of those that the server has.")] = None,
    ar_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A server of the same model that does not draft."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="The server at URL itself does not draft.")
    ] = False,
    ask_key: AskKey = False,
) -> None:
    """Add a server as a pair of your own; it is asked first."""
    from dflash_app.workspace import open_workspace

    from .adding import Typed, add_server, ask_servers

    if plain and ar_url:
        raise RequestError("With --plain the server at URL is the plain one: leave out --ar-url.")
    if not name.strip():
        raise RequestError("The pair's name is empty: give one such as gpu-box.")
    key = _typed_key(ask_key)
    typed = Typed("" if plain else url, url if plain else ar_url or "", model or "", name, key)
    with closing(open_workspace()) as workspace:
        pair = add_server(workspace, typed, ask_servers(typed, own_keys=True))
        file = workspace.settings.user_registry
    terminal.note(f"Pair {pair.name!r} is saved in {file}: it serves {pair.target.model}.")


@servers_app.command("rm")
def remove(name: Name) -> None:
    """Remove a server of your own, and its key from the keyring."""
    from dflash_app.workspace import open_workspace

    from .adding import remove_server

    with closing(open_workspace()) as workspace:
        remove_server(workspace, name)
    terminal.note(f"Pair {name!r} is removed; its server goes on.")


def _typed_key(asked: bool) -> str:
    return str(typer.prompt("Key", hide_input=True, err=True)).strip() if asked else ""


def _row(place: "Place", answer: "Answer | None") -> tuple[str, ...]:
    up = isinstance(answer, Capabilities)
    label = answer.label if isinstance(answer, Capabilities) else "-"
    decodes = "DFlash" if place.role == "dflash" else "AR"
    return place.pair, decodes, place.url, "up" if up else "down", label, place.model


def _as_json(place: "Place", answer: "Answer | None") -> dict[str, Any]:
    known = isinstance(answer, Capabilities)
    return asdict(place) | {"told": answer if known else None, "problem": None if known else answer}


def _told(found: Capabilities) -> Iterator[tuple[str, str]]:
    yield "engine", found.label
    for model in found.models:
        tokens = f", context {model.context_length:,}" if model.context_length else ""
        yield "model", model.name + tokens
    drafts = f", {found.num_drafts} tokens a step" if found.num_drafts else ""
    yield "drafts", _yes(found.drafts) + drafts
    whose = {"request": "of each request", "server": "of all it serves, together", None: "not told"}
    yield "acceptance", whose[found.counted]
    yield "AR switch", _yes(found.can_switch_drafts)
    yield "thinking switch", _yes(found.engine != "unknown")


def _yes(known: bool | None) -> str:
    return "not told" if known is None else "yes" if known else "no"
