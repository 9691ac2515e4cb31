"""The fast drafter drafts what the module drafts, under every layer rule."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.context import ContextCache
from dflash_app.backends.torch.fast import why_not_drafter

SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "use_sliding_window": True}
CONFIGS: dict[str, dict[str, Any]] = {
    "full": {},
    "sliding and causal, then full": {**SLIDING, "sliding_window": 20},
    "sliding, both ways": {**SLIDING, "sliding_window": 20, "is_causal": False},
    "a window smaller than the block": {**SLIDING, "sliding_window": 9, "is_causal": False},
    "causal everywhere": {"is_causal": True},
    "biased, one key head": {"attention_bias": True, "num_key_value_heads": 1},
}


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def states(count: int, seed: int) -> torch.Tensor:
    return torch.randn(1, count, 3 * 32, generator=torch.Generator().manual_seed(seed))


def changed(**nested: Any) -> dict[str, Any]:
    return {
        "dflash_config": {
            "block_size": 16,
            "mask_token_id": 95,
            "target_layer_ids": [0, 2, 3],
            **nested,
        }
    }


@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("config", CONFIGS)
def test_states_agree_while_the_context_grows_and_is_cut(
    both_drafters: Callable[..., Any], config: str, bfloat16: bool
) -> None:
    slow, fast = both_drafters(bfloat16=bfloat16, **CONFIGS[config])
    assert why_not_drafter(slow) is None
    held, context = ContextCache(slow), fast.new_context()
    block = torch.randn(1, 16, 32)
    for seed, (count, cut, width) in enumerate(
        [(3, 0, 16), (5, 2, 16), (12, 0, 16), (1, 0, 7), (30, 11, 16), (250, 0, 16), (2, 0, 2)]
    ):
        tapped = states(count, seed)
        held.extend(tapped)
        context.extend(tapped)
        held.crop(held.length - cut)
        context.crop(context.length - cut)
        assert context.length == held.length
        theirs = held.draft(block[:, :width])
        mine = context.draft(block[:, :width])
        assert mine.shape == theirs.shape
        assert torch.allclose(mine, theirs, atol=2e-5 * float(theirs.abs().max()), rtol=0)


@pytest.mark.parametrize(
    "nested",
    [
        {},
        {"output_multiplier": 0.3, "final_logit_softcapping": 2.0, "input_embedding_scale": 3.0},
        {"sample_from_anchor": True, "block_size": 15},
    ],
    ids=["plain", "scaled and capped", "from the anchor"],
)
def test_proposals_agree_greedy_and_sampled(
    both_targets: Callable[..., Any], both_drafters: Callable[..., Any], nested: dict[str, Any]
) -> None:
    slow, fast = both_drafters(**changed(**nested))
    target, fast_target = both_targets()
    held, context = ContextCache(slow), fast.new_context()
    held.extend(states(20, 1))
    context.extend(states(20, 1))
    ids = torch.tensor([[5] + 15 * [95]])
    block = slow.embed(ids, target.embedding)
    assert torch.equal(fast.embed(ids, fast_target.embedding), block)
    hidden = held.draft(block)[0, :11]
    my_hidden = context.draft(block)[0, :11]

    def sampler(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        probs = scores.softmax(dim=-1)
        return probs, probs.argmax(dim=-1)

    for draw in (None, sampler):
        theirs = slow.propose(hidden, ids[0, :1], target.head, draw)
        mine = fast.propose(my_hidden, ids[0, :1], fast_target.head, draw)
        assert mine.token_ids.tolist() == theirs.token_ids.tolist()
        assert torch.allclose(mine.confidences, theirs.confidences, atol=1e-5)
        assert (mine.probs is None) == (draw is None)


def test_a_context_of_another_length_is_refused(both_drafters: Callable[..., Any]) -> None:
    _, fast = both_drafters()
    context = fast.new_context()
    context.extend(states(4, 0))
    with pytest.raises(ValueError, match="holds 4 tokens, not 5"):
        fast.draft(torch.randn(1, 16, 32), context, 5)


def test_the_second_generation_and_what_else_is_left_out_have_a_reason(
    make_drafter: Callable[..., Any],
) -> None:
    sizes = {"conv_kernel_size": 2, "conv_group_size": 8, "selector_rank": 4, "selector_top_k": 4}
    second = changed(**sizes) | {"architectures": ["DFlash2DraftModel"]}
    assert "DFlash 2" in str(why_not_drafter(make_drafter(96, **second)))
    quantised = make_drafter(96)
    quantised.layers[1].mlp.up_proj = type("Linear4bit", (torch.nn.Linear,), {})(32, 48)
    assert "quantised" in str(why_not_drafter(quantised))
    assert "gelu" in str(why_not_drafter(make_drafter(96, hidden_act="gelu")))
