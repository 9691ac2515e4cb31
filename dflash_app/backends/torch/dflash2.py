"""DFlash 2: the same drafter with local convolutions in its layers and a candidate selector.

Source: "DFlash 2" of z-lab (github.com/z-lab/dflash, MIT); tensor names as in its checkpoints.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dflash_app.backends.torch.dflash import DFlashDrafter, Proposal, Sampler
from dflash_app.backends.torch.dflash_layer import AttentionKind, DFlashLayer, LayerKV
from dflash_app.backends.torch.rotary import Rotation
from dflash_app.backends.torch.selector import CandidateSelector, walk
from dflash_app.drafters.config import DFlashConfig, SelectorConfig


def new_drafter(config: DFlashConfig, attention: AttentionKind = "sdpa") -> DFlashDrafter:
    """A drafter of the generation that the config describes, with random weights.

    Args:
        config: its `selector` makes it a DFlash 2.
        attention: see `DFlashDrafter`.
    """
    if config.selector is None:
        return DFlashDrafter(config, attention)
    return DFlash2Drafter(config, attention)


class DFlash2Drafter(DFlashDrafter):
    """Drafts like the first generation; its slots know their neighbours, and choose by them.

    Args:
        config: shape and rules, `selector` among them.
        attention: see `DFlashDrafter`.
    """

    def __init__(self, config: DFlashConfig, attention: AttentionKind = "sdpa") -> None:
        super().__init__(config, attention)
        selector = _selector_of(config)
        self.candidate_selector = CandidateSelector(
            config.hidden_size, config.known_vocab_size, selector.rank, selector.top_k
        )

    def propose(
        self,
        hidden: Tensor,
        anchor_id: Tensor,
        head: Callable[[Tensor], Tensor],
        sampler: Sampler | None,
    ) -> Proposal:
        """Walk the candidates from the anchor; otherwise as in the first generation.

        Greedy takes the best continuation at every slot. Sampled, every row of scores makes a
        distribution and one draw, and the path reads the draws of the rows that it passes: those
        rows are the q of the rejection rule, exact because each was really drawn from.
        """
        logits = self.logits(hidden, head).float()
        token_ids, scores = self.candidate_selector(hidden, logits, anchor_id)
        if sampler is None:
            probs, choices = scores.softmax(dim=-1), scores.argmax(dim=-1)
        else:
            probs, choices = sampler(scores.flatten(0, 1))
            probs, choices = probs.view_as(scores), choices.view(scores.shape[:2])
        came_from, chosen = walk(choices)
        path_probs = probs.gather(1, came_from[:, None, None].expand_as(probs[:, :1]))[:, 0]
        drafted = token_ids.gather(-1, chosen[:, None])[:, 0]
        confidences = path_probs.gather(-1, chosen[:, None])[:, 0]
        if sampler is None:
            return Proposal(drafted, None, confidences)
        return Proposal(
            drafted, torch.zeros_like(logits).scatter(-1, token_ids, path_probs), confidences
        )

    def _new_layer(self) -> DFlashLayer:
        return DFlash2Layer(self.config, self.attention)


class DFlash2Layer(DFlashLayer):
    """A layer whose attention and MLP each stand between two convolutions over the block."""

    def __init__(self, config: DFlashConfig, attention: AttentionKind) -> None:
        super().__init__(config, attention)
        selector = _selector_of(config)
        taps, group_size = selector.conv_kernel_size, selector.conv_group_size
        self.attention_conv = DynamicConv(config.hidden_size, taps, group_size)
        self.mlp_conv = DynamicConv(config.hidden_size, taps, group_size)

    def forward(
        self,
        hidden: Tensor,
        rotation: Rotation,
        context: LayerKV,
        mask: Tensor | None,
        num_blocks: int = 1,
    ) -> Tensor:
        """As `DFlashLayer.forward`; a convolution never reaches into the block before."""
        normed = self.input_layernorm(hidden)
        before, after = self.attention_conv(normed)
        mixed = self.self_attn(convolve(normed, before, num_blocks), rotation, context, mask)
        hidden = hidden + convolve(mixed, after, num_blocks)
        normed = self.post_attention_layernorm(hidden)
        before, after = self.mlp_conv(normed)
        mixed = self.mlp(convolve(normed, before, num_blocks))
        return hidden + convolve(mixed, after, num_blocks)


class DynamicConv(nn.Module):
    """Makes the kernels of two convolutions from the state that enters the first.

    A kernel is a learned one per channel plus one per group of channels that depends on the slot.
    """

    def __init__(self, hidden_size: int, kernel_size: int, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size
        self.base_kernel = nn.Parameter(torch.zeros(2, kernel_size, hidden_size))
        num_groups = hidden_size // group_size
        self.kernel_projection = nn.Linear(hidden_size, 2 * kernel_size * num_groups, bias=False)
        with torch.no_grad():
            # Untrained, it passes its input on.
            self.base_kernel[:, 0] = 1.0

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """[b, Q, hidden] -> the kernels before and after, each [b, Q, taps, hidden]."""
        kernel_size = self.base_kernel.shape[1]
        by_group = self.kernel_projection(hidden).unflatten(-1, (2, kernel_size, -1))
        kernels = self.base_kernel + by_group.repeat_interleave(self.group_size, dim=-1)
        return kernels[:, :, 0], kernels[:, :, 1]


def convolve(hidden: Tensor, kernels: Tensor, num_blocks: int) -> Tensor:
    """Mix every slot with the slots before it in its own block.

    Args:
        hidden: [b, Q, hidden], blocks of equal width one after the other.
        kernels: [b, Q, taps, hidden]; tap t weighs the slot t places back.
        num_blocks: how many blocks there are.

    Returns:
        [b, Q, hidden].
    """
    batch, width, size = hidden.shape
    blocks = hidden.reshape(batch, num_blocks, width // num_blocks, size)
    mixed = hidden * kernels[:, :, 0]
    for tap in range(1, kernels.shape[2]):
        earlier = F.pad(blocks, (0, 0, tap, 0))[:, :, : blocks.shape[2]]
        mixed = mixed + earlier.flatten(1, 2) * kernels[:, :, tap]
    return mixed


def _selector_of(config: DFlashConfig) -> SelectorConfig:
    if config.selector is None:
        raise ValueError("a DFlash 2 needs a config with a selector")
    return config.selector
