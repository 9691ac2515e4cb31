"""Small drafters on disk, each written as its own tool writes it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import MuseGlimmerAssistantConfig, MuseGlimmerAssistantModel

from dflash_app.backends.torch.dflash import DFlashConfig, DFlashDrafter
from dflash_app.backends.torch.dflash2 import new_drafter

VOCAB = 96
LAYER: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
DFLASH2 = {"conv_kernel_size": 2, "conv_group_size": 8, "selector_rank": 4, "selector_top_k": 6}


SLIDING = {
    "layer_types": ["sliding_attention", "full_attention"],
    "use_sliding_window": True,
    "sliding_window": 6,
}


def random_drafter(**changes: Any) -> DFlashDrafter:
    """A drafter as z-lab would describe it, with weights that make a difference."""
    own = {"block_size": 8, "mask_token_id": 95, "target_layer_ids": [0, 2, 3]}
    torch.manual_seed(5)
    drafter = new_drafter(DFlashConfig.from_dict({**LAYER, "rope_theta": 1e4, **own, **changes}))
    for parameter in drafter.parameters():
        torch.nn.init.normal_(parameter, mean=0.05, std=0.3)
    return drafter.eval().requires_grad_(False)


def write_drafter(folder: Path, config: dict[str, Any], state: dict[str, Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    state = {name: tensor.detach().clone() for name, tensor in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def speculators_config(**changes: Any) -> dict[str, Any]:
    """A config as speculators writes it: the layers' defaults left out, ids counted from 1."""
    return {
        "architectures": ["DFlashSpeculator"],
        "speculators_model_type": "dflash",
        "speculators_version": "0.5.0",
        "speculators_config": {"algorithm": "dflash", "verifier": {"name_or_path": "x/y"}},
        "transformer_layer_config": {
            **LAYER,
            "model_type": "qwen3",
            "rope_parameters": {"rope_theta": 10_000.0, "rope_type": "default"},
        },
        "draft_vocab_size": VOCAB,
        "block_size": 8,
        "mask_token_id": 95,
        "aux_hidden_state_layer_ids": [1, 3, 4],
        "projector_type": "dflash",
        "shift_label": False,
        **changes,
    }


def write_block7(folder: Path) -> DFlashDrafter:
    """Write what DeepSpec writes for block 7; returns the same drafter in z-lab's words."""
    expected = random_drafter(block_size=7)
    torch.manual_seed(7)
    own = {
        "embed_tokens.weight": torch.randn(VOCAB, 32),
        "lm_head.weight": torch.randn(VOCAB, 32),
    }
    config = {
        **LAYER,
        "architectures": ["Qwen3DSparkModel"],
        "model_type": "qwen3",
        "block_size": 7,
        "mask_token_id": 95,
        "target_layer_ids": [0, 2, 3],
        "num_target_layers": 4,
        "num_anchors": 512,
        "enable_confidence_head": False,
        "markov_rank": 0,
        "layer_types": ["full_attention"] * 2,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_theta": 10_000.0, "rope_type": "default"},
    }
    write_drafter(folder, config, {**expected.state_dict(), **own})
    return expected


def write_muse_assistant(folder: Path) -> None:
    """Write what transformers writes for `muse_glimmer_assistant`."""
    config = MuseGlimmerAssistantConfig(
        **{key: value for key, value in LAYER.items() if key != "vocab_size"},
        max_position_embeddings=256,
        sliding_window=9,
        block_size=8,
        mask_token_id=95,
        target_layer_ids=[0, 2],
    )
    torch.manual_seed(0)
    MuseGlimmerAssistantModel(config).save_pretrained(folder)
