"""Checkpoints in the layouts that quantised models are published in, made from plain ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
"""The sixteen values of a 4-bit float."""
LARGEST_E4M3 = 448.0


def write_fp8(plain: Path, folder: Path, block: int = 32) -> dict[str, Tensor]:
    """The layout of Qwen's and DeepSeek's FP8 checkpoints: a scale for each square of a matrix.

    Returns:
        What the packed weights stand for, by name.
    """

    def pack(name: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        rows, columns = weight.shape
        squares = weight.view(rows // block, block, columns // block, block)
        scale = squares.abs().amax((1, 3)) / LARGEST_E4M3
        grid = scale[:, None, :, None]
        packed = (squares / grid).to(torch.float8_e4m3fn)
        unpacked = (packed.float() * grid).view(rows, columns)
        return {name: packed.view(rows, columns), f"{name}_scale_inv": scale}, unpacked

    config = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [block, block],
    }
    return _rewrite(plain, folder, config, lambda name: name.endswith("_proj.weight"), pack)


def write_mxfp4(plain: Path, folder: Path) -> dict[str, Tensor]:
    """The layout of gpt-oss: experts as blocks of 32 4-bit floats with one power of two each.

    Returns:
        What the packed weights stand for, by name.
    """

    def pack(name: str, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        groups = weight.transpose(1, 2).unflatten(-1, (-1, 32))  # along the inputs
        exponent = groups.abs().amax(-1).log2().floor() - 2
        scale = exponent.exp2()[..., None]
        codes = ((groups / scale)[..., None] - E2M1).abs().argmin(-1)
        packed = (codes[..., 0::2] | (codes[..., 1::2] << 4)).to(torch.uint8)
        stored = {f"{name}_blocks": packed, f"{name}_scales": (exponent + 127).to(torch.uint8)}
        return stored, (E2M1[codes] * scale).flatten(-2).transpose(1, 2).contiguous()

    config = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router"],
    }
    experts = ("experts.gate_up_proj", "experts.down_proj")
    return _rewrite(plain, folder, config, lambda name: name.endswith(experts), pack)


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of a folder's only file."""
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def _rewrite(
    plain: Path,
    folder: Path,
    config: dict[str, Any],
    packs: Callable[[str], bool],
    pack: Callable[[str, Tensor], tuple[dict[str, Tensor], Tensor]],
) -> dict[str, Tensor]:
    shutil.copytree(plain, folder)
    edit_config(folder, quantization_config=config)
    stands_for: dict[str, Tensor] = {}

    def change(state: dict[str, Tensor]) -> None:
        for name in [name for name in state if packs(name)]:
            stored, stands_for[name] = pack(name, state.pop(name))
            state.update({key: value.contiguous() for key, value in stored.items()})

    rewrite_weights(folder, change)
    assert stands_for
    return stands_for
