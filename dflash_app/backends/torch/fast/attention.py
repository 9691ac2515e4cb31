"""Grouped-query attention of a few tokens, or of a chunk of a prompt, over keys in a buffer."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_GROUPED = 64
"""Tokens up to which the queries of a group stand one below the other, and no key is repeated."""
KEYS_OF_A_SPLIT = 512
ALIGNED_KEYS = 16
"""The kernel on CUDA reads masks in pieces of 16 bytes."""
MIN_SPLITS = 4
"""Below, one after the other is quicker than side by side and putting together."""

_aten: Any = torch.ops.aten  # has no type stubs


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Grouped-query attention.

    Args:
        queries: [T, heads, head_dim].
        keys: [1, kv heads, S, head_dim].
        values: the same.
        mask: from `masks`: additive, [groups * T, S] up to `MAX_GROUPED` tokens, whose queries
            stand group below group so that no key is repeated, [T, S] above.

    Returns:
        [T, heads * head_dim].
    """
    num_tokens = queries.shape[0]
    if num_tokens > MAX_GROUPED:
        mixed = F.scaled_dot_product_attention(
            queries.transpose(0, 1)[None], keys, values, attn_mask=mask, enable_gqa=True
        )
    else:
        grouped = _grouped(queries, keys.shape[1])
        mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
    return _by_token(mixed, queries)


def attend_in_splits(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """`attend` up to `MAX_GROUPED` tokens, parts of the keys side by side where they are many.

    A kernel works through the keys of a head one after the other, and a few heads leave most of a
    GPU idle: parts of the keys are more of them, put together by their share of the softmax.

    Args:
        queries: [T, heads, head_dim].
        keys: [1, kv heads, S, head_dim].
        values: the same.
        mask: additive and finite, [groups * T, S]: a part may be hidden as a whole. S is a multiple
            of `ALIGNED_KEYS`.

    Returns:
        [T, heads * head_dim].

    Source: Dao et al., "Flash-Decoding for long-context inference", 2023.
    """
    num_splits, rest = divmod(keys.shape[2], KEYS_OF_A_SPLIT)
    if rest or num_splits < MIN_SPLITS:
        num_splits = 1
    num_kv_heads = keys.shape[1]
    shape = (num_splits, num_kv_heads, -1, -1)
    mixed, weight = _with_weight(
        _grouped(queries, num_kv_heads).expand(shape),
        _split(keys[0], num_splits),
        _split(values[0], num_splits),
        _split(mask, num_splits)[:, None].expand(shape),
    )
    if num_splits > 1:
        share = weight.softmax(dim=0)[..., None]
        mixed = (mixed * share).sum(dim=0).to(queries.dtype)
    return _by_token(mixed, queries)


def _grouped(queries: Tensor, num_kv_heads: int) -> Tensor:
    """[T, heads, head_dim] -> [1, kv heads, groups * T, head_dim]."""
    num_tokens, _, head_dim = queries.shape
    if num_tokens == 1:
        return queries.view(1, num_kv_heads, -1, head_dim)
    grouped = queries.view(num_tokens, num_kv_heads, -1, head_dim).permute(1, 2, 0, 3)
    return grouped.reshape(1, num_kv_heads, -1, head_dim)


def _by_token(mixed: Tensor, queries: Tensor) -> Tensor:
    """[..., heads by token, head_dim] -> [T, heads * head_dim]."""
    num_tokens, num_heads, head_dim = queries.shape
    if num_tokens == 1:
        return mixed.reshape(1, -1)
    # The kernel's own layout differs from one to another: no view.
    mixed = mixed.reshape(num_heads, num_tokens, head_dim)
    return mixed.transpose(0, 1).reshape(num_tokens, -1)


def _split(states: Tensor, num_splits: int) -> Tensor:
    """[N, S, ...] -> [parts, N, S / parts, ...], a view."""
    return states.view(states.shape[0], num_splits, -1, *states.shape[2:]).transpose(0, 1)


def _with_weight(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention, and the logarithm of what its softmax divided by, [batch, heads, Q] float32."""
    if queries.device.type == "cpu":
        mixed, weight = _aten._scaled_dot_product_flash_attention_for_cpu(
            queries, keys, values, 0.0, False, attn_mask=mask
        )
        return mixed, weight
    mixed, weight, _, _ = _aten._scaled_dot_product_efficient_attention(
        queries, keys, values, mask, True
    )
    # The kernel rounds the number of queries up.
    return mixed, weight.narrow(2, 0, queries.shape[2])
