"""Tiny random targets on disk, in the layout in which their families are published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dflash_app.backends.torch.selftest.tiny_families import build_model

Weights = dict[str, Tensor]
Config = dict[str, Any]


def _as_it_is(config: Config, weights: Weights) -> Weights:
    return weights


def _gemma4(config: Config, weights: Weights) -> Weights:
    # transformers writes what differs by layer nowhere; published files say it for all.
    text = config.get("text_config", config)
    index = text["layer_types"].index("full_attention")
    key = next(name for name in weights if name.endswith(f"layers.{index}.self_attn.k_norm.weight"))
    text["global_head_dim"] = weights[key].shape[0]
    return weights


def _fused_experts(config: Config, weights: Weights) -> Weights:
    """Experts side by side in one tensor, not one by one."""
    kept = {name: weight for name, weight in weights.items() if ".experts." not in name}
    first = ".experts.0.gate_proj.weight"
    for prefix in (name.removesuffix(first) for name in weights if name.endswith(first)):
        gate, up, down = (_stacked(weights, prefix, part) for part in ("gate", "up", "down"))
        kept[f"{prefix}.experts.gate_up_proj"] = torch.cat([gate, up], dim=1)
        kept[f"{prefix}.experts.down_proj"] = down
    return kept


def _stacked(weights: Weights, prefix: str, part: str) -> Tensor:
    names = [f"{prefix}.experts.{expert}.{part}_proj.weight" for expert in range(len(weights))]
    return torch.stack([weights[name] for name in names if name in weights])


def _apart_experts(config: Config, weights: Weights) -> Weights:
    """gpt-oss in full precision, as mlx-community has it: OpenAI's own files are mxfp4."""
    found: Weights = {}
    for name, weight in weights.items():
        if name.endswith("experts.gate_up_proj"):
            gate_up = weight.transpose(1, 2)
            found[name.replace("gate_up_proj", "gate_proj.weight")] = gate_up[:, ::2]
            found[name.replace("gate_up_proj", "up_proj.weight")] = gate_up[:, 1::2]
        elif name.endswith("experts.gate_up_proj_bias"):
            found[name.replace("gate_up_proj_bias", "gate_proj.bias")] = weight[:, ::2]
            found[name.replace("gate_up_proj_bias", "up_proj.bias")] = weight[:, 1::2]
        elif name.endswith("experts.down_proj"):
            found[name + ".weight"] = weight.transpose(1, 2)
        elif name.endswith("experts.down_proj_bias"):
            found[name.replace("_proj_bias", "_proj.bias")] = weight
        else:
            found[name] = weight
    return found


def _text_alone(config: Config, weights: Weights) -> Weights:
    """Without towers, and with the names that transformers changes as it writes."""
    return {
        name.replace("language_model.model.blocks", "language_model.model.layers"): weight
        for name, weight in weights.items()
        if "vision" not in name and "mm_" not in name
    }


PUBLISHED: dict[str, Callable[[Config, Weights], Weights]] = {
    "qwen3": _as_it_is,
    "llama": _as_it_is,
    "qwen3_moe": _as_it_is,
    "gpt_oss": _apart_experts,
    "gemma4_text": _gemma4,
    "gemma4_text moe": _gemma4,
    "gemma4_text shared": _gemma4,
    "gemma4": _gemma4,
    "gemma4_unified_text": _gemma4,
    "gemma4_unified": _gemma4,
    "muse_glimmer": _text_alone,
    "deepseek_v3": _as_it_is,
    "kimi_k25": _text_alone,
    "qwen3_next": _as_it_is,
    "qwen3_5_text": _as_it_is,
    "qwen3_5": _as_it_is,
    "qwen3_5_moe_text": _fused_experts,
    "qwen3_5_moe": _fused_experts,
}
"""The families of `families.ROLLBACK_KINDS`, named as in the torch backend's tiny models."""

WHOLE = ("qwen3_5", "qwen3_5_moe", "gemma4")
"""Wrappers that are written with their vision tower, which mlx-lm leaves out."""


def write_target(name: str, folder: Path, **changes: Any) -> Any:
    """Write a target as its family is published.

    Returns:
        The same as a model of transformers.
    """
    model = build_model(name, **changes, whole=name in WHOLE)
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    weights = PUBLISHED[name](config, load_file(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps(config))
    weights = {key: weight.contiguous() for key, weight in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return model
