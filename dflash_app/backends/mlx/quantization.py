"""Weights in 4 or 8 bits: MLX's own affine quantisation in groups, on load or in the checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx import nn

from dflash_app.backends.mlx.families import stored_as
from dflash_app.errors import UnsupportedFormat

BITS = {"4bit": 4, "8bit": 8}
"""What a load can be asked for, by its name."""

GROUP_SIZE = 64
"""Weights that share a scale; mlx-lm's and mlx-community's default."""


def check_storage(folder: Path, config: Mapping[str, Any], quantization: str | None) -> None:
    """Refuse to quantise what is quantised already.

    Args:
        folder: of the target.
        config: its parsed config.json.
        quantization: asked for on load.

    Raises:
        UnsupportedFormat: naming the cure.
    """
    stored = stored_as(config)
    if quantization is not None and stored is not None:
        raise UnsupportedFormat(
            f"The target in {folder} is stored as {stored} already: leave the precision on auto."
        )


def check_name(name: str | None) -> None:
    """Refuse what MLX cannot store weights as; None stores them as they come.

    Raises:
        UnsupportedFormat: naming what it can.
    """
    if name is not None and name not in BITS:
        raise UnsupportedFormat(
            f"MLX does not store weights as {name}: use {' or '.join(BITS)}, or the torch backend."
        )


def quantize(model: nn.Module, name: str) -> None:
    """Store linear weights and embeddings in fewer bits; the model is changed in place.

    Args:
        model: a target of mlx-lm or a drafter. What a family keeps in more bits stays so.
        name: a key of `BITS`.

    Raises:
        UnsupportedFormat: another name.
    """
    check_name(name)
    predicate = getattr(model, "quant_predicate", None)

    def choose(path: str, module: nn.Module) -> bool | dict[str, Any]:
        if not hasattr(module, "to_quantized") or module.weight.shape[-1] % GROUP_SIZE:
            return False
        return True if predicate is None else predicate(path, module)

    nn.quantize(model, GROUP_SIZE, BITS[name], class_predicate=choose)
