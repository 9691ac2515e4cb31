"""DFlash 2: the same drafter with local convolutions in its layers and a candidate selector.

Source: "DFlash 2" of z-lab (github.com/z-lab/dflash, MIT); tensor names as in its checkpoints.
"""

import mlx.core as mx
from mlx import nn

from dflash_app.backends.mlx.context import ContextCache
from dflash_app.backends.mlx.dflash import DFlashDrafter, Proposal, Rows, Sampler
from dflash_app.backends.mlx.dflash_layer import DFlashLayer
from dflash_app.backends.mlx.selector import CandidateSelector, walk
from dflash_app.drafters.config import DFlashConfig, SelectorConfig


def new_drafter(config: DFlashConfig) -> DFlashDrafter:
    """A drafter of the generation that the config describes, its weights yet to be loaded.

    Args:
        config: its `selector` makes it a DFlash 2.
    """
    return DFlashDrafter(config) if config.selector is None else DFlash2Drafter(config)


class DFlash2Drafter(DFlashDrafter):
    """Drafts like the first generation; its slots know their neighbours, and choose by them.

    Args:
        config: shape and rules, `selector` among them.
    """

    def __init__(self, config: DFlashConfig) -> None:
        super().__init__(config)
        selector = _selector_of(config)
        self.candidate_selector = CandidateSelector(
            config.hidden_size, config.known_vocab_size, selector.rank, selector.top_k
        )

    def propose(
        self, hidden: mx.array, anchor_id: mx.array, head: Rows, sampler: Sampler | None
    ) -> Proposal:
        """Walk the candidates from the anchor; otherwise as in the first generation.

        Greedy takes the best continuation at every slot. Sampled, every row of scores makes a
        distribution and one draw, and the path reads the draws of the rows that it passes: those
        rows are the q of the rejection rule, exact because each was really drawn from.
        """
        logits = self.logits(hidden, head).astype(mx.float32)
        token_ids, scores = self.candidate_selector(hidden, logits, anchor_id)
        if sampler is None:
            probs = mx.softmax(scores, axis=-1)
            choices = scores.argmax(axis=-1).astype(mx.int32)
        else:
            flat_probs, flat_choices = sampler(scores.reshape(-1, scores.shape[-1]))
            probs = flat_probs.reshape(scores.shape)
            choices = flat_choices.reshape(scores.shape[:2])
        came_from, chosen = walk(choices)
        path_probs = mx.take_along_axis(probs, came_from[:, None, None], axis=1)[:, 0]
        drafted = mx.take_along_axis(token_ids, chosen[:, None], axis=-1)[:, 0]
        confidences = mx.take_along_axis(path_probs, chosen[:, None], axis=-1)[:, 0]
        if sampler is None:
            return Proposal(drafted, None, confidences)
        everywhere = mx.put_along_axis(mx.zeros_like(logits), token_ids, path_probs, axis=-1)
        return Proposal(drafted, everywhere, confidences)

    def _new_layer(self, index: int) -> DFlashLayer:
        return DFlash2Layer(self.config, index)


class DFlash2Layer(DFlashLayer):
    """A layer whose attention and MLP each stand between two convolutions over the block."""

    def __init__(self, config: DFlashConfig, index: int) -> None:
        super().__init__(config, index)
        selector = _selector_of(config)
        taps, group_size = selector.conv_kernel_size, selector.conv_group_size
        self.attention_conv = DynamicConv(config.hidden_size, taps, group_size)
        self.mlp_conv = DynamicConv(config.hidden_size, taps, group_size)

    def __call__(self, hidden: mx.array, context: ContextCache, position: int) -> mx.array:
        """As `DFlashLayer`."""
        normed = self.input_layernorm(hidden)
        before, after = self.attention_conv(normed)
        mixed = self.self_attn(convolve(normed, before), context, position)
        hidden = hidden + convolve(mixed, after)
        normed = self.post_attention_layernorm(hidden)
        before, after = self.mlp_conv(normed)
        return hidden + convolve(self.mlp(convolve(normed, before)), after)


class DynamicConv(nn.Module):
    """Makes the kernels of two convolutions from the state that enters the first.

    A kernel is a learned one per channel plus one per group of channels that depends on the slot.
    """

    def __init__(self, hidden_size: int, kernel_size: int, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size
        self.base_kernel = mx.zeros((2, kernel_size, hidden_size))
        num_groups = hidden_size // group_size
        self.kernel_projection = nn.Linear(hidden_size, 2 * kernel_size * num_groups, bias=False)

    def __call__(self, hidden: mx.array) -> tuple[mx.array, mx.array]:
        """[1, Q, hidden] -> the kernels before and after, each [1, Q, taps, hidden]."""
        shape = (*hidden.shape[:2], 2, self.base_kernel.shape[1], -1)
        by_group = self.kernel_projection(hidden).reshape(shape)
        kernels = self.base_kernel + mx.repeat(by_group, self.group_size, axis=-1)
        return kernels[:, :, 0], kernels[:, :, 1]


def convolve(hidden: mx.array, kernels: mx.array) -> mx.array:
    """Mix every slot of a block with the slots before it.

    Args:
        hidden: [1, Q, hidden].
        kernels: [1, Q, taps, hidden]; tap t weighs the slot t places back.

    Returns:
        [1, Q, hidden].
    """
    width = hidden.shape[1]
    mixed = hidden * kernels[:, :, 0]
    for tap in range(1, kernels.shape[2]):
        earlier = mx.pad(hidden, [(0, 0), (tap, 0), (0, 0)])[:, :width]
        mixed = mixed + earlier * kernels[:, :, tap]
    return mixed


def _selector_of(config: DFlashConfig) -> SelectorConfig:
    if config.selector is None:
        raise ValueError("a DFlash 2 needs a config with a selector")
    return config.selector
