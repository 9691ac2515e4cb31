"""transformers' own DFlash (`muse_glimmer_assistant`): its files load and draft the same, fp32."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MuseGlimmerAssistantConfig, MuseGlimmerAssistantModel
from transformers.cache_utils import DFlashCache

from dflash_app.backends.torch.checkpoint import load_drafter
from dflash_app.drafters.config import AttentionRule

WIDTH = 8


def _written(folder: Path, **changes: Any) -> MuseGlimmerAssistantModel:
    config = MuseGlimmerAssistantConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        sliding_window=9,
        block_size=WIDTH,
        mask_token_id=60,
        target_layer_ids=[0, 2],
        **changes,
    )
    torch.manual_seed(0)
    model = MuseGlimmerAssistantModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "changes",
    [{}, {"layer_types": ["full_attention", "sliding_attention"]}],
)
@torch.inference_mode()
def test_files_of_transformers_draft_as_transformers_does_across_the_window(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    theirs = _written(tmp_path, **changes)
    ours = load_drafter(tmp_path, torch.device("cpu"), torch.float32)
    cache = DFlashCache(config=theirs.config)
    cache.activate_past_recording()
    tapped = torch.empty(1, 0, 2 * 32)
    for appended in (5, 1, 7, 3, 8, 2):
        new, block = torch.randn(1, appended, 2 * 32), torch.randn(1, WIDTH, 32)
        start = tapped.shape[1]
        tapped = torch.cat([tapped, new], dim=1)
        cache.set_previous_accepted_tokens(appended)
        if start:
            cache.crop(-WIDTH)
        expected = theirs(
            noise_embeds=block,
            context_hidden_states=new,
            position_ids=torch.arange(start, start + appended + WIDTH)[None],
            past_key_values=cache,
        ).last_hidden_state[:, 1:]
        length = tapped.shape[1]
        context = ours.project_context(tapped, torch.arange(length))
        actual = ours.draft(block, context, length)
        assert torch.allclose(actual, expected, atol=1e-4), (actual - expected).abs().max()


def test_its_window_is_one_wider_in_zlabs_words_and_defaults_left_out_are_filled(
    tmp_path: Path,
) -> None:
    _written(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert "rope_parameters" in raw or "head_dim" in raw
    config = load_drafter(tmp_path, torch.device("cpu"), torch.float32).config
    assert config.attention_rules == (AttentionRule(causal=False, window=10),) * 2
    assert (config.vocab_size, config.block_size, config.mask_token_id) == (None, WIDTH, 60)
    assert config.rope_parameters["rope_theta"] == 500_000.0
