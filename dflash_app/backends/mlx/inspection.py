"""Whether a drafter fits a target as mlx-lm has it, before any weight is read."""

from dataclasses import dataclass
from pathlib import Path

from dflash_app.backends.mlx.config import read_config
from dflash_app.backends.mlx.dflash_layer import activation
from dflash_app.backends.mlx.rotary import new_rope
from dflash_app.drafters.checkpoint import open_checkpoint
from dflash_app.drafters.inspection import check_fit
from dflash_app.errors import LoadError
from dflash_app.registry.pair import Pair


@dataclass(frozen=True, slots=True)
class MlxTargetShape:
    """`drafters.inspection.TargetShape` by a target's config.json."""

    folder: Path
    num_layers: int
    hidden_size: int
    vocab_size: int


def check_pair(target_dir: Path, drafter_dir: Path, pair: Pair) -> tuple[str, ...]:
    """Refuse two folders that do not belong together; warnings of what works all the same.

    Raises:
        LoadError, UnsupportedFormat: see `drafters.inspection.check_fit`; or mlx-lm does not run
            the target's family, or MLX does not compute what the drafter's layers ask for.
    """
    warnings = check_fit(drafter_dir, read_shape(target_dir), pair)
    drafter = open_checkpoint(drafter_dir).config
    activation(drafter.hidden_act)
    new_rope(drafter)
    return warnings


def read_shape(folder: Path) -> MlxTargetShape:
    """The shape of a target.

    Raises:
        LoadError: its config.json does not say it.
        UnsupportedFormat: mlx-lm does not run its family as it should.
    """
    config = read_config(folder)
    text = config.get("text_config") or config
    keys = ("num_hidden_layers", "hidden_size", "vocab_size")
    try:
        num_layers, hidden_size, vocab_size = (int(text[key]) for key in keys)
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(
            f"{folder / 'config.json'} is no valid config; download the target again ({error!r})."
        ) from error
    return MlxTargetShape(folder, num_layers, hidden_size, vocab_size)
