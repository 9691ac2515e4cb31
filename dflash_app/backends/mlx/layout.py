"""How weights lie in memory: as the products of MLX's CPU build read them fast.

Off Apple's machines MLX multiplies float32 by the reference BLAS. Where a weight's rows are its
outputs, as in every checkpoint, that BLAS adds up one output after the other, a number at a time;
where its rows are its inputs, it adds to many outputs at once. The sums have the same order, so the
result is the same to the last bit.
"""

import platform

import mlx.core as mx
from mlx import nn
from mlx_lm.models.switch_layers import SwitchLinear

from dflash_app.backends.mlx.device import say_device


def lay_out_for_products(model: nn.Module) -> None:
    """Let the weights of float32 products lie input by input, where MLX computes by BLAS.

    Shapes stay, and so do weights that are only looked up, of other dtypes, or on a GPU.

    Args:
        model: a target of mlx-lm or a drafter; changed in place, nothing is evaluated.
    """
    if platform.system() == "Darwin" or say_device(mx.default_device()) != "cpu":
        return
    named = dict(model.named_modules())
    has_head = any(path.endswith("lm_head") for path in named)
    for path, module in named.items():
        # Without a head of its own a model multiplies by its embedding.
        is_embedding = isinstance(module, nn.Embedding) and path.endswith("embed_tokens")
        multiplies = not has_head if is_embedding else _only_multiplies(module)
        if multiplies and module.weight.dtype == mx.float32:
            module.weight = mx.contiguous(module.weight.swapaxes(-1, -2)).swapaxes(-1, -2)


def _only_multiplies(module: nn.Module) -> bool:
    """A bias would be added first instead of last, which rounds otherwise."""
    return isinstance(module, SwitchLinear) or (
        isinstance(module, nn.Linear) and "bias" not in module
    )
