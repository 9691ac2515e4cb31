"""`dflash-app pairs`: which pairs are known, and which can run here."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dflash_app.cli import terminal

if TYPE_CHECKING:
    from dflash_app.hub.cache import PairState
    from dflash_app.registry.pair import Pair


def pairs(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
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
