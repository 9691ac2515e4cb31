"""The fast target is transformers' own model, whatever the shape and the step."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.fast import FastTarget, why_not
from tests.backends.torch.fast.conftest import randomise

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("qwen3", {}),
    "qwen3 tied, biased": ("qwen3", {"tie_word_embeddings": True, "attention_bias": True}),
    "qwen3 wide heads, one key head": ("qwen3", {"head_dim": 16, "num_key_value_heads": 1}),
    "qwen3 all key heads, yarn": ("qwen3", {"num_key_value_heads": 4, "rope_parameters": YARN}),
    "llama": ("llama", {}),
    "llama tied, biased": (
        "llama",
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "llama llama3, large eps": ("llama", {"rope_parameters": LLAMA3, "rms_norm_eps": 0.1}),
    "llama linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}},
    ),
}
LAST_AND_OTHERS = (3, 0, 2)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(params=["bfloat16", "float32"], scope="module")
def bfloat16(request: pytest.FixtureRequest) -> bool:
    """Weights that float16 holds, and weights that it would round."""
    return bool(request.param == "bfloat16")


def tokens(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(96, (count,), generator=torch.Generator().manual_seed(seed))


def assert_close(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    assert mine.shape == theirs.shape
    scale = float(theirs.abs().max())
    assert torch.allclose(mine, theirs, atol=2e-5 * scale, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_and_taps_agree_in_prompts_steps_and_blocks(
    both_targets: Callable[..., Any], shape: str, bfloat16: bool
) -> None:
    family, changes = SHAPES[shape]
    slow, fast = both_targets(family, bfloat16=bfloat16, **changes)
    assert why_not(slow.model) is None
    caches = slow.new_cache(), fast.new_cache()
    for seed, (count, num_logits) in enumerate(
        [(90, 1), (1, 1), (16, 16), (1, 1), (5, 3), (70, 2)]
    ):
        ids = tokens(count, seed)
        theirs, their_states = slow.forward(ids, caches[0], num_logits, LAST_AND_OTHERS)
        mine, my_states = fast.forward(ids, caches[1], num_logits, LAST_AND_OTHERS)
        assert_close(mine, theirs)
        assert_close(my_states, their_states)
    assert caches[1].length == 183


def test_taps_change_nothing_and_no_cache_is_needed(both_targets: Callable[..., Any]) -> None:
    slow, fast = both_targets()
    ids = tokens(12)
    expected = slow.forward(ids, None, 12)[0]
    for taps in ((), (0, 1), (3,)):
        logits, tapped = fast.forward(ids, None, 12, taps)
        assert_close(logits, expected)
        assert (tapped is None) == (taps == ())


def test_a_prompt_in_chunks_is_the_prompt_in_one(both_targets: Callable[..., Any]) -> None:
    _, fast = both_targets()
    ids = tokens(200)
    whole = fast.forward(ids, None, 200)[0]
    for chunk in (1, 7, 64, 65, 199):
        cache = fast.new_cache()
        parts = [fast.forward(part, cache, len(part))[0] for part in ids.split(chunk)]
        assert_close(torch.cat(parts), whole)


def test_after_a_crop_to_any_length_nothing_of_the_rest_is_left(
    both_targets: Callable[..., Any],
) -> None:
    _, fast = both_targets()
    ids, others = tokens(40), tokens(24, seed=1)
    expected = fast.forward(ids, None, 40)[0]
    for length in range(1, 40):
        cache = fast.new_cache()
        fast.forward(ids[:length], cache, 1)
        fast.forward(others, cache, 24)
        cache.crop(-24)
        assert cache.length == length
        logits, _ = fast.forward(ids[length:], cache, 40 - length)
        assert_close(logits, expected[length:])


def test_a_cache_refuses_to_forget_more_than_it_holds(both_targets: Callable[..., Any]) -> None:
    _, fast = both_targets()
    cache = fast.new_cache()
    fast.forward(tokens(5), cache, 1)
    for tokens_to_remove in (-6, 1):
        with pytest.raises(ValueError, match="of 5 tokens"):
            cache.crop(tokens_to_remove)
    cache.crop(-5)
    cache.crop(0)
    assert cache.length == 0


def test_a_cache_grows_beyond_its_first_capacity(
    both_targets: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dflash_app.hub.capacity.FIRST_CAPACITY", 16)
    slow, fast = both_targets()
    cache, ids = fast.new_cache(), tokens(120)
    capacities = set()
    parts = []
    for part in ids.split(5):
        parts.append(fast.forward(part, cache, 5)[0])
        capacities.add(cache.capacity)
    assert len(capacities) > 3
    assert_close(torch.cat(parts), slow.forward(ids, None, 120)[0])


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_bfloat16_differs_by_its_rounding(make_target: Callable[..., Any], family: str) -> None:
    slow = make_target(family, 96)
    randomise(slow.model, bfloat16=True)
    exact = slow.forward(tokens(24), None, 24)[0]
    slow.model.to(torch.bfloat16)
    theirs = slow.forward(tokens(24), None, 24)[0].float()
    fast = FastTarget(deepcopy(slow.model))
    mine = fast.forward(tokens(24), None, 24)[0].float()
    assert fast.new_cache().memory_bytes() == 0
    assert (mine - exact).abs().mean() < 1.2 * (theirs - exact).abs().mean()


def test_reasons_name_what_the_fast_path_does_not_run(make_target: Callable[..., Any]) -> None:
    sliding = make_target(
        "qwen3",
        96,
        use_sliding_window=True,
        sliding_window=20,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    dynamic = {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}
    mixed = make_target("llama", 96)
    mixed.model.model.layers[1].mlp.to(torch.bfloat16)
    quantised = make_target("llama", 96)
    layer = quantised.model.model.layers[0]
    layer.mlp.up_proj = type("Linear4bit", (torch.nn.Linear,), {})(32, 48, bias=False)
    reasons = [
        why_not(sliding.model),
        why_not(make_target("llama", 96, rope_parameters=dynamic).model),
        why_not(mixed.model),
        why_not(quantised.model),
        why_not(make_target("llama", 96, hidden_act="gelu").model),
    ]
    for reason, word in zip(
        reasons, ("sliding", "dynamic", "several types", "quantised", "gelu"), strict=True
    ):
        assert word in (reason or "")
