"""Our drafter against z-lab's own code (dflash 0.1.0) on the same weights, fp32."""

from typing import Any

import pytest
import torch
from dflash.model import DFlashDraftModel
from transformers import DynamicCache
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config

from dflash_app.backends.torch.dflash import DFlashConfig, DFlashDrafter

SHAPE: dict[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "num_target_layers": 6,
    "rms_norm_eps": 1e-5,
}
OWN = {"block_size": 8, "mask_token_id": 60, "target_layer_ids": [0, 2, 5]}
SLIDING = {
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "use_sliding_window": True,
    "sliding_window": 11,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bidirectional, nested keys": {"dflash_config": OWN, "rope_theta": 10_000.0},
    "bidirectional, flat keys": {**OWN, "rope_parameters": {"rope_theta": 50_000.0}},
    "sliding causal": {"dflash_config": OWN, **SLIDING, "rope_theta": 10_000.0},
    "sliding non-causal": {**OWN, **SLIDING, "is_causal": False, "rope_theta": 10_000.0},
    "all causal": {**OWN, "is_causal": True, "rope_theta": 10_000.0},
    "yarn": {**OWN, "rope_parameters": YARN},
    "bias, odd head size": {**OWN, "attention_bias": True, "head_dim": 12, "rope_theta": 1e4},
}


def _pair(raw: dict[str, Any], attention: Any = "sdpa") -> tuple[DFlashDraftModel, DFlashDrafter]:
    torch.manual_seed(0)
    theirs = DFlashDraftModel(Qwen3Config(**raw)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    ours = DFlashDrafter(DFlashConfig.from_dict(raw), attention).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_growing_context_gives_zlabs_hidden_states_at_every_step(name: str, attention: str) -> None:
    raw = {**SHAPE, **CONFIGS[name]}
    theirs, ours = _pair(raw, attention)
    cache = DynamicCache(config=theirs.config)
    cache.activate_past_recording()
    context: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    start = 0
    for appended in (9, 1, 5, 3):
        tapped = torch.randn(1, appended, 3 * 32)
        block = torch.randn(1, 8, 32)
        expected = theirs(
            target_hidden=tapped,
            noise_embedding=block,
            position_ids=torch.arange(start, start + appended + 8)[None],
            past_key_values=cache,
            use_cache=True,
        )
        cache.crop(-8)
        new = ours.project_context(tapped, torch.arange(start, start + appended))
        context = (
            new
            if context is None
            else [
                (torch.cat([k, nk], 2), torch.cat([v, nv], 2))
                for (k, v), (nk, nv) in zip(context, new, strict=True)
            ]
        )
        start += appended
        actual = ours.draft(block, context, start)
        assert torch.allclose(actual, expected, atol=1e-4), (actual - expected).abs().max()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_many_blocks_at_once_equal_each_block_drafted_alone(name: str, attention: Any) -> None:
    _, ours = _pair({**SHAPE, **CONFIGS[name]}, attention)
    length, width, anchors = 30, 8, [3, 14, 22]
    tapped = torch.randn(1, length, 3 * 32)
    blocks = torch.randn(1, len(anchors) * width, 32)
    block_positions = torch.cat([torch.arange(a, a + width) for a in anchors])
    owner = torch.arange(len(anchors)).repeat_interleave(width)
    mask = torch.cat(
        [
            torch.arange(length)[None] < torch.tensor(anchors)[owner][:, None],
            owner[:, None] == owner[None, :],
        ],
        dim=1,
    )
    together = ours(blocks, tapped, torch.arange(length), block_positions, mask[None, None])
    additive = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
    again = ours(blocks, tapped, torch.arange(length), block_positions, additive)
    for index, anchor in enumerate(anchors):
        context = ours.project_context(tapped[:, :anchor], torch.arange(anchor))
        rows = slice(index * width, (index + 1) * width)
        alone = ours.draft(blocks[:, rows], context, anchor)
        assert torch.allclose(together[:, rows], alone, atol=1e-4)
        assert torch.allclose(again[:, rows], alone, atol=1e-4)
