"""The drafter's loss, and the acceptance that it would have had."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dflash_app.training.anchors import IGNORED


def block_loss(logits: Tensor, targets: Tensor, slots: Tensor, gamma: float) -> Tensor:
    """Cross-entropy of the drafted slots, early ones counting more.

    A wrong draft throws away all that follow it, so slot k weighs exp(-(k - 1) / gamma).

    Args:
        logits: [b, Q, V].
        targets: [b, Q] int64, IGNORED where nothing is drafted.
        slots: [Q] int64, slot within the block.
        gamma: decay, in slots.

    Returns:
        The weighted mean, a scalar.

    Source: arXiv:2602.06036, the position-weighted loss.
    """
    losses = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="none"
    ).view(targets.shape)
    weights = torch.exp(-(slots - 1).float() / gamma) * (targets != IGNORED)
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)


@torch.no_grad()
def drafted_prefix(logits: Tensor, targets: Tensor, block_size: int) -> float:
    """Mean length of the right prefix of a block, teacher-forced.

    It overstates real acceptance: anchors here stand after right text at random places, while real
    anchors stand after a mistake. Use it to follow a run, never to report one.

    Args:
        logits: [b, Q, V].
        targets: [b, Q] int64.
        block_size: B, anchor included.
    """
    right = (logits.argmax(-1) == targets).view(-1, block_size)[:, 1:]
    return float(right.int().cumprod(-1).sum(-1).float().mean())
