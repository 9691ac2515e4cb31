"""Whether a drafter was made for a target."""

from dflash_app.backends.torch.dflash_config import DFlashConfig
from dflash_app.errors import LoadError


def check_fits(config: DFlashConfig, *, hidden_size: int, vocab_size: int, num_layers: int) -> None:
    """Refuse a drafter that was made for another target. Head counts mean nothing.

    Args:
        config: the drafter's.
        hidden_size: the target's.
        vocab_size: the target's.
        num_layers: the target's depth.

    Raises:
        LoadError: naming both figures.
    """
    deepest, mask_id = max(config.target_layer_ids), config.mask_token_id
    drafters_vocab = vocab_size if config.vocab_size is None else config.vocab_size
    mismatches = (
        ("hidden size", config.hidden_size, hidden_size, config.hidden_size != hidden_size),
        ("vocabulary", drafters_vocab, vocab_size, drafters_vocab != vocab_size),
        ("mask token", mask_id, f"a vocabulary of {vocab_size}", mask_id >= vocab_size),
        ("deepest tapped layer", deepest, f"{num_layers} layers", deepest >= num_layers),
    )
    for what, drafters, targets, wrong in mismatches:
        if wrong:
            raise LoadError(
                f"The drafter does not belong to this target ({what}: {drafters} against "
                f"{targets}): choose the drafter that was trained for it."
            )
