"""The arrays of a model or a cache, wherever in it they are."""

from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten


def named_arrays(tree: Any) -> list[tuple[str, mx.array]]:
    """Every array of nested dicts, lists and tuples, with its path."""
    found: Any = tree_flatten(tree)
    return [(name, array) for name, array in found if isinstance(array, mx.array)]


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights."""
    return sum(array.nbytes for _, array in named_arrays(model.parameters()))
