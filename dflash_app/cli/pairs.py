"""`dflash-app pairs`: which pairs are known, which can run here, and the user's own."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dflash_app.cli import terminal
from dflash_app.errors import RegistryError

if TYPE_CHECKING:
    from dflash_app.hub.cache import PairState
    from dflash_app.registry.pair import Pair

pairs_app = typer.Typer(
    help="List the known pairs; add and remove your own.", rich_markup_mode=None
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The pair's name.")]
Revision = Annotated[str | None, typer.Option(help="Commit of the repository.")]


@pairs_app.callback(invoke_without_command=True)
def _pairs(
    context: typer.Context,
    as_json: AsJson = False,
) -> None:
    if context.invoked_subcommand is None:
        _list_pairs(as_json)


@pairs_app.command("add")
def add_pair(  # noqa: PLR0917 - a command's options are its parameters
    name: Name,
    target: Annotated[str, typer.Option(metavar="REPO_OR_PATH", help="The model that decides.")],
    drafter: Annotated[str, typer.Option(metavar="REPO_OR_PATH", help="The model that drafts.")],
    target_revision: Revision = None,
    drafter_revision: Revision = None,
    title: Annotated[str | None, typer.Option(help="What the page calls it.")] = None,
) -> None:
    """Add a pair of your own, checked first where its models are here."""
    from dflash_app.backends.torch.candidate import check_fit, consider
    from dflash_app.registry.custom import read_ref
    from dflash_app.workspace import open_workspace

    if not name.strip():
        raise RegistryError("The pair's name is empty: give one such as my-pair.")
    target_ref = read_ref(target, target_revision, role="target")
    drafter_ref = read_ref(drafter, drafter_revision, role="drafter")
    with closing(open_workspace()) as workspace:
        found = check_fit(consider(workspace.registry, name, target_ref, drafter_ref, title))
        workspace.add_pair(found.pair)
        file = workspace.settings.user_registry
    for said in (*found.missing, *(found.fit.warnings if found.fit else ())):
        terminal.note(f"Note: {said}")
    terminal.note(f"Pair {found.pair.name!r} is saved in {file}.")


@pairs_app.command("remove")
def remove_pair(name: Name) -> None:
    """Remove a pair of your own; its models stay on disk."""
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        if any(pair.name == name and pair.remote for pair in workspace.pairs()):
            raise RegistryError(
                f"Pair {name!r} is on a server: `dflash-app servers rm {name}` removes it, and "
                "its key."
            )
        workspace.remove_pair(name)
    terminal.note(f"Pair {name!r} is removed; its models are still on disk.")


@pairs_app.command("list", hidden=True)
@pairs_app.command("ls", hidden=True)
def _list_pairs(as_json: AsJson = False) -> None:
    """List the known pairs and what of them is here."""
    from dflash_app.workspace import open_workspace

    with closing(open_workspace()) as workspace:
        found = [(pair, workspace.state(pair.name)) for pair in workspace.pairs()]
        problems = workspace.registry.problems
    if as_json:
        terminal.print_json({"pairs": [_as_json(pair, state) for pair, state in found]})
    else:
        header = ("pair", "state", "block", "target", "drafter")
        terminal.print_table(header, [_row(pair, state) for pair, state in found])
    for problem in problems:
        terminal.note(f"Left out: {problem}")


def _row(pair: "Pair", state: "PairState") -> tuple[str, ...]:
    drafter = pair.drafter.source if pair.drafter else "-"
    block = str(pair.block_size) if pair.block_size else "-"
    return pair.name, state.status, block, pair.target.source, drafter


def _as_json(pair: "Pair", state: "PairState") -> dict[str, Any]:
    row = pair.model_dump(mode="json", exclude={"benchmarks"})
    return row | {"state": state.status, "reason": state.reason}
