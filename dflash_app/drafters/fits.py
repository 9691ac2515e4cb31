"""Whether a drafter was made for a target, by their shapes. Head counts mean nothing."""

from dflash_app.drafters.config import DFlashConfig
from dflash_app.errors import LoadError


def misfits(
    config: DFlashConfig, *, hidden_size: int, vocab_size: int, num_layers: int
) -> tuple[str, ...]:
    """Why a drafter cannot run with a target: a sentence for each reason, none where it can.

    Args:
        config: the drafter's.
        hidden_size: the target's.
        vocab_size: the target's.
        num_layers: the target's depth.
    """
    deepest, mask_id = max(config.target_layer_ids), config.mask_token_id
    drafters_vocab = vocab_size if config.vocab_size is None else config.vocab_size
    mismatches = (
        ("hidden size", config.hidden_size, hidden_size, config.hidden_size != hidden_size),
        ("vocabulary", drafters_vocab, vocab_size, drafters_vocab != vocab_size),
        ("mask token", mask_id, f"a vocabulary of {vocab_size}", mask_id >= vocab_size),
        ("deepest tapped layer", deepest, f"{num_layers} layers", deepest >= num_layers),
    )
    return tuple(
        f"The drafter does not belong to this target ({what}: {drafters} against {targets}): "
        "choose the drafter that was trained for it."
        for what, drafters, targets, wrong in mismatches
        if wrong
    )


def check_fits(config: DFlashConfig, *, hidden_size: int, vocab_size: int, num_layers: int) -> None:
    """Refuse a drafter that was made for another target; arguments as of `misfits`.

    Raises:
        LoadError: naming both figures of the first reason.
    """
    reasons = misfits(config, hidden_size=hidden_size, vocab_size=vocab_size, num_layers=num_layers)
    if reasons:
        raise LoadError(reasons[0])
