"""Additive masks for tokens that follow any number of others, as slices of one mask per width."""

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from dflash_app.backends.torch.fast.attention import ALIGNED_KEYS, MAX_GROUPED
from dflash_app.drafters.attention_rule import AttentionRule
from dflash_app.hub.capacity import capacity_of

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

    def mask(
        self, rule: AttentionRule, num_tokens: int, num_keys: int, *, keep: bool = True
    ) -> Tensor | None:
        """As `attention.attend` takes it; None where every token sees every key.

        Args:
            rule: of the layer.
            num_tokens: queries.
            num_keys: the last `num_tokens` of them are the queries' own.
            keep: for the next step; the rest of a prompt has any width, and comes once.
        """
        if (num_tokens == 1 or not rule.causal) and num_keys <= (rule.window or num_keys):
            return None
        if num_tokens > MAX_GROUPED:
            if rule == CAUSAL and self._like.device.type == "cuda":
                return causal_lower_right(num_tokens, num_keys)  # its kernel needs no mask
            return self._build(rule, num_tokens, num_keys, 1)
        if not keep:
            return self._build(rule, num_tokens, num_keys, self._groups)
        held = self._held.get((rule, num_tokens))
        if held is None or held.shape[1] < num_keys:
            held = self._build(rule, num_tokens, capacity_of(num_keys), self._groups)
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


def mask_at(
    rule: AttentionRule, positions: Tensor, seen: Tensor, groups: int, dtype: torch.dtype
) -> Tensor:
    """The mask of tokens whose positions only the device knows.

    Args:
        rule: of the layer.
        positions: [T] int64, one after the other.
        seen: [S] int64, positions of the keys.
        groups: query heads per key head.
        dtype: of the queries.

    Returns:
        [groups * T, S]; hidden keys get a number that is finite, as `attend_in_splits` needs it.
    """
    distance = positions[:, None] - seen
    hidden = distance < 0 if rule.causal else (seen > positions[-1]).expand_as(distance)
    if rule.window is not None:
        hidden = hidden | (distance.abs() >= rule.window)
    # A quarter of the smallest: adding a score, and changing the base, must not leave the range.
    mask = torch.zeros(distance.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(hidden, torch.finfo(dtype).min / 4).repeat(groups, 1)


def keys_near(rule: AttentionRule, positions: Tensor, bucket: int) -> Tensor:
    """[S] int64, positions of keys: all that tokens see by a rule, and perhaps more.

    Args:
        rule: of the layer.
        positions: [T] int64, one after the other; only the device knows them.
        bucket: all keys are below it; a window that is half of it or more is not cut out.
    """
    device = positions.device
    if rule.window is None:
        return torch.arange(bucket, device=device)
    num_keys = -(-(rule.window - 1 + positions.shape[0]) // ALIGNED_KEYS) * ALIGNED_KEYS
    if 2 * num_keys > bucket:
        return torch.arange(bucket, device=device)
    start = (positions[0] - rule.window + 1).clamp(0, bucket - num_keys)
    return start + torch.arange(num_keys, device=device)
