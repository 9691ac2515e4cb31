"""What the fast path's products hold beside or instead of the weights."""

from collections.abc import Iterable
from dataclasses import dataclass

from dflash_app.hub.model_config import RawConfig, ties_embeddings
from dflash_app.hub.weights import Weight

MAX_COPIED_BYTES = 1 << 30
"""As `backends.torch.fast.products.MAX_COPIED_BYTES`; a test holds them equal."""


@dataclass(frozen=True, slots=True)
class FastPath:
    """The static fast path, and what its products hold beside or instead of the weights.

    Attributes:
        half: float32 weights that were stored in 16 bits are kept as float16.
        packed: weights of small models are held a second time, in another layout.
        graphs: steps are CUDA graphs.
    """

    half: bool = False
    packed: bool = False
    graphs: bool = False


def target_copies(weights: list[Weight], config: RawConfig, fast: FastPath, dtype: str) -> int:
    """Bytes of a target's copies, less the weights that they replace.

    Args:
        weights: from `weights.target_weights`.
        config: its config.json.
        fast: what the path holds.
        dtype: that it computes in.
    """
    held = [weight for weight in weights if weight.is_linear]
    replaced = _copies(held, weights, fast, dtype)
    if ties_embeddings(config):
        # The head has a copy of its own, and the rows stay for lookups.
        rows = next((weight for weight in weights if weight.is_embedding), None)
        if rows is None:
            return replaced  # the load tells what is missing
        replaced += _copy(rows, fast, dtype, small=_is_small(weights))
        if _becomes_half(rows, fast, dtype):
            replaced += rows.num_bytes(dtype)
    return replaced


def drafter_copies(weights: list[Weight], fast: FastPath, dtype: str) -> int:
    """The same of a drafter's; see `target_copies`."""
    held = [weight for weight in weights if weight.is_linear and not weight.is_head]
    copies = _copies(held, weights, fast, dtype)
    # Keys and values of the context are one product of all layers, beside the layers' own.
    for weight in held:
        if weight.name.endswith(("k_proj.weight", "v_proj.weight")):
            own = _copy(weight, fast, dtype, small=_is_small(weights))
            copies += own + weight.num_bytes(dtype)
    return copies


def _copies(held: list[Weight], every: list[Weight], fast: FastPath, dtype: str) -> int:
    small = _is_small(every)
    copies = sum(_copy(weight, fast, dtype, small=small) for weight in held)
    if dtype == "float32" and (fast.half or fast.packed):
        # Norms are kept a second time, scaled.
        norms = (each for each in every if each.name.endswith("norm.weight"))
        copies += sum(each.num_bytes(dtype) for each in norms)
    return copies


def _copy(weight: Weight, fast: FastPath, dtype: str, *, small: bool) -> int:
    """Bytes of a product beside its weight; negative where the weight goes."""
    if _becomes_half(weight, fast, dtype):
        return 2 * weight.num_elements - weight.num_bytes(dtype)
    return weight.num_bytes(dtype) if fast.packed and dtype == "float32" and small else 0


def _becomes_half(weight: Weight, fast: FastPath, dtype: str) -> bool:
    """Of other checkpoints only the numbers tell, which are taken to need float32."""
    return fast.half and dtype == "float32" and weight.stored in ("bfloat16", "float16")


def _is_small(weights: Iterable[Weight]) -> bool:
    return sum(weight.num_bytes("float32") for weight in weights) <= MAX_COPIED_BYTES
