"""What a drafter's config says, which belongs to no tensor library and still lives with PyTorch's.

To move down, where both backends may import it; until then, this module and `borrowed_files` do.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dflash_app.backends.torch.dflash_config import AttentionRule, DFlashConfig, SelectorConfig
from dflash_app.registry.pair import Pair

if TYPE_CHECKING:
    from dflash_app.backends.torch.formats import Checkpoint

__all__ = [
    "AttentionRule",
    "DFlashConfig",
    "SelectorConfig",
    "check_fits",
    "check_pair",
    "load_tokenizer",
    "open_checkpoint",
]


def open_checkpoint(folder: Path) -> "Checkpoint":
    """Config and tensor headers of a drafter in any format, checked; no weight is read."""
    from dflash_app.backends.torch import formats

    return formats.open_checkpoint(folder)


def check_fits(config: DFlashConfig, *, hidden_size: int, vocab_size: int, num_layers: int) -> None:
    """Refuse a drafter that was made for another target."""
    from dflash_app.backends.torch import formats

    formats.check_fits(
        config, hidden_size=hidden_size, vocab_size=vocab_size, num_layers=num_layers
    )


def check_pair(target_dir: Path, drafter_dir: Path, pair: Pair) -> tuple[str, ...]:
    """Refuse two folders that do not belong together; warnings of what works all the same."""
    from dflash_app.backends.torch import inspection

    return inspection.check_pair(target_dir, drafter_dir, pair)


def load_tokenizer(folder: Path) -> Any:
    """A target's tokenizer and chat template; no remote code, no network."""
    from dflash_app.backends.torch.loading import load_tokenizer as load

    return load(folder)
