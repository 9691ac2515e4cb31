"""Additive masks for tokens that follow any number of others, as slices of one mask per width."""

import torch
from torch import Tensor

from dflash_app.backends.torch.attention_rule import AttentionRule

MAX_GROUPED = 64
"""Tokens up to which `layer.attend` puts the queries of a group one below the other."""
CAUSAL = AttentionRule(causal=True)


class Masks:
    """What a query may see depends on distances only: fewer keys are the mask's right end.

    Args:
        groups: query heads per key head.
        like: any tensor of the model; gives dtype and device.
    """

    def __init__(self, groups: int, like: Tensor) -> None:
        self._groups = groups
        self._like = like
        self._held: dict[tuple[AttentionRule, int], Tensor] = {}

    def mask(self, rule: AttentionRule, num_tokens: int, num_keys: int) -> Tensor | None:
        """As `layer.attend` takes it; None where every token sees every key.

        Args:
            rule: of the layer.
            num_tokens: queries.
            num_keys: the last `num_tokens` of them are the queries' own.
        """
        if (num_tokens == 1 or not rule.causal) and num_keys <= (rule.window or num_keys):
            return None
        if num_tokens > MAX_GROUPED:
            return self._build(rule, num_tokens, num_keys, 1)
        held = self._held.get((rule, num_tokens))
        if held is None or held.shape[1] < num_keys:
            held = self._build(rule, num_tokens, 2 * num_keys, self._groups)
            self._held[rule, num_tokens] = held
        return held.narrow(1, held.shape[1] - num_keys, num_keys)

    def _build(self, rule: AttentionRule, num_tokens: int, num_keys: int, groups: int) -> Tensor:
        device = self._like.device
        keys = torch.arange(num_keys, device=device)
        distance = keys[num_keys - num_tokens :, None] - keys
        hidden = torch.zeros_like(distance, dtype=torch.bool)
        if rule.causal:
            hidden = hidden | (distance < 0)
        if rule.window is not None:
            hidden = hidden | (distance.abs() >= rule.window)
        mask = torch.zeros(num_tokens, num_keys, dtype=self._like.dtype, device=device)
        return mask.masked_fill_(hidden, float("-inf")).repeat(groups, 1)
