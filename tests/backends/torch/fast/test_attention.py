"""Keys in parts side by side are attended to as keys in a row."""

import pytest
import torch
from torch.nn.attention.bias import causal_lower_right

from dflash_app.backends.torch.fast import attention
from dflash_app.backends.torch.fast.attention import attend, attend_in_splits
from dflash_app.backends.torch.fast.masks import CAUSAL, keys_near, mask_at
from dflash_app.drafters.attention_rule import AttentionRule

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8
BOTH_WAYS = AttentionRule(causal=False, window=20)


def case(
    num_tokens: int, bucket: int, first: int, rule: AttentionRule, dtype: torch.dtype
) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(num_tokens + first)
    queries = torch.randn(num_tokens, HEADS, HEAD_DIM, generator=generator).to(dtype)
    keys, values = torch.randn(2, 1, KV_HEADS, bucket, HEAD_DIM, generator=generator).to(dtype)
    positions = first + torch.arange(num_tokens)
    mask = mask_at(rule, positions, torch.arange(bucket), HEADS // KV_HEADS, dtype)
    return queries, keys, values, mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", [CAUSAL, AttentionRule(), BOTH_WAYS], ids=str)
@pytest.mark.parametrize("num_tokens", [1, 3, 16, 64])
def test_parts_that_are_full_or_empty_or_both_are_put_together(
    monkeypatch: pytest.MonkeyPatch, num_tokens: int, rule: AttentionRule, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(attention, "KEYS_OF_A_SPLIT", 16)
    for first in (0, 1, 15, 16, 40, 63):
        case_ = case(num_tokens, 128, first, rule, dtype)
        queries, keys, values, mask = (each.float() for each in case_)
        # Keys that are seen, and no others, with no mask that stands for hidden ones.
        hidden = mask < -1
        expected = attend(queries, keys, values, mask.masked_fill(hidden, float("-inf")))
        found = attend_in_splits(*case_)
        assert found.dtype == dtype
        atol = 1e-5 if dtype == torch.float32 else 0.02
        assert torch.allclose(found.float(), expected, atol=atol)


def test_few_keys_stay_in_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "KEYS_OF_A_SPLIT", 16)
    shapes = []
    inner = attention._with_weight
    monkeypatch.setattr(
        attention, "_with_weight", lambda *states: shapes.append(states[1].shape) or inner(*states)
    )
    for bucket in (16, 48, 64, 72):
        attend_in_splits(*case(3, bucket, 4, CAUSAL, torch.float32))
    assert [tuple(shape)[::2] for shape in shapes] == [(1, 16), (1, 48), (4, 16), (1, 72)]


@pytest.mark.parametrize("held", [0, 1, 90])
def test_a_chunk_of_a_prompt_may_be_causal_by_a_rule_instead_of_a_mask(held: int) -> None:
    num_tokens = 70
    queries, keys, values, mask = case(num_tokens, held + num_tokens, held, CAUSAL, torch.float32)
    mask = mask[:num_tokens].masked_fill(mask[:num_tokens] < -1, float("-inf"))
    expected = attend(queries, keys, values, mask)
    rule = causal_lower_right(num_tokens, held + num_tokens)
    assert torch.allclose(attend(queries, keys, values, rule), expected, atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 5, 17, 40])
@pytest.mark.parametrize("width", [1, 8, 16])
def test_keys_near_are_all_that_a_rule_shows(causal: bool, window: int | None, width: int) -> None:
    rule, bucket = AttentionRule(causal, window), 128
    for first in range(bucket - width + 1):
        positions = first + torch.arange(width)
        near = keys_near(rule, positions, bucket)
        assert near.tolist() == list(range(int(near[0]), int(near[-1]) + 1))
        assert int(near[0]) >= 0
        assert int(near[-1]) < bucket
        assert len(near) % 16 == 0
        shown = (mask_at(rule, positions, torch.arange(bucket), 1, torch.float32) == 0).any(dim=0)
        assert set(shown.nonzero()[:, 0].tolist()) <= set(near.tolist())
    if window is not None and window <= 40:
        assert len(near) <= 64


def test_every_number_type_keeps_hidden_keys_hidden_and_finite() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        mask = mask_at(CAUSAL, torch.tensor([3]), torch.arange(16), 1, dtype)
        assert torch.isfinite(mask).all()
        assert (mask.float() + 1000).exp()[0].tolist()[4:] == 12 * [0.0]
