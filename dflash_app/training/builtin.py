"""The `train` command; torch is imported only when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from dflash_app.hookspecs import hookimpl


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Add `dflash-app train CONFIG`."""
    app.command("train")(train)


def train(
    config: Annotated[Path, typer.Argument(help="YAML file; recipes/train_example.yaml is one.")],
) -> None:
    """Train a drafter, or go on from its last checkpoint."""
    from dflash_app.training.config import load_training_config
    from dflash_app.training.trainer import train_drafter

    result = train_drafter(load_training_config(config), log=typer.echo)
    typer.echo(f"wrote {result.folder}")
