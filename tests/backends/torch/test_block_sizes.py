"""Blocks below and above the trained size: never other text, in any kind of drafter."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.dflash2 import new_drafter
from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.selftest.tiny_families import VOCAB_SIZE
from dflash_app.drafters.config import DFlashConfig
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.speculative import decode
from dflash_app.errors import RequestError
from dflash_app.events import StepDone
from dflash_app.request import MAX_BLOCK_SIZE, SamplingParams

GREEDY = SamplingParams()
TRAINED = 8
PROMPT = [5, 9, 2, 40, 41, 7]
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rope_theta": 10_000.0,
}
COMMON = {"block_size": TRAINED, "mask_token_id": VOCAB_SIZE - 1, "target_layer_ids": [0, 2, 3]}
SELECTOR = {"conv_kernel_size": 2, "conv_group_size": 8, "selector_rank": 4, "selector_top_k": 4}
KINDS: dict[str, dict[str, Any]] = {
    "first generation": {"dflash_config": COMMON},
    "sliding causal": {
        "dflash_config": COMMON,
        "sliding_window": 12,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "DFlash 2": {"architectures": ["DFlash2DraftModel"], "dflash_config": {**COMMON, **SELECTOR}},
    "drafting from the anchor": {"dflash_config": {**COMMON, "sample_from_anchor": True}},
}


@pytest.fixture(params=KINDS)
def models(request: pytest.FixtureRequest, make_target: Callable[..., Any]) -> TorchModels:
    torch.manual_seed(2)
    config = DFlashConfig.from_dict({**SHAPE, **KINDS[request.param]})
    assert config.drafts_from_anchor == (request.param == "drafting from the anchor")
    drafter = new_drafter(config).eval().requires_grad_(False)
    return TorchModels(make_target("qwen3", VOCAB_SIZE), drafter)


@pytest.mark.parametrize("block_size", [2, 5, TRAINED, 20, MAX_BLOCK_SIZE])
def test_every_block_size_puts_out_what_plain_decoding_does(
    models: TorchModels, block_size: int, run_lane: Callable[..., Any]
) -> None:
    truth = run_lane(models.open_lane(GREEDY, "ar"), PROMPT, 80, num_draft=0).token_ids
    lane = models.open_lane(GREEDY, "dflash", block_size)
    decoded = run_lane(lane, PROMPT, 80, num_draft=block_size - 1)
    assert decoded.token_ids == truth
    assert len(decoded.steps[0].drafted_ids) == block_size - 1


def test_a_seed_repeats_a_sampled_text_of_a_large_block(models: TorchModels) -> None:
    sampling = SamplingParams(temperature=1.0, seed=3)

    def sample() -> list[int]:
        events = decode(
            models.open_lane(sampling, "dflash", 32),
            PROMPT,
            policy=FixedDrafts(31),
            max_new_tokens=40,
            eos_ids=frozenset(),
            context_length=512,
            clock=lambda: 0.0,
            cancelled=lambda: False,
        )
        steps = [event for event in events if isinstance(event, StepDone)]
        return [token for step in steps for token in step.token_ids]

    assert sample() == sample() != []


def test_a_block_of_65_is_refused(models: TorchModels) -> None:
    with pytest.raises(RequestError, match="blocks of 2 to 64 tokens, not 65"):
        models.open_lane(GREEDY, "dflash", MAX_BLOCK_SIZE + 1)
