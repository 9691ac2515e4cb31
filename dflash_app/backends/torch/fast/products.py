"""Products of a few rows with a weight: what they cost is reading the weight.

So on a CPU in float32 a weight is kept in half precision where that rounds nothing float32 would
notice, as with every checkpoint in bfloat16 or float16: half the bytes, while everything is still
multiplied and added up in float32.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Apply: TypeAlias = Callable[[Tensor], Tensor]
"""[T, in] -> [T, out]."""
AddTo: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(residual [T, out], [T, in]) -> [T, out]; the residual stays as it is."""

MAX_COPIED_BYTES = 1 << 30
"""Largest model whose weights are held a second time, in oneDNN's layout."""
FLOAT32_ROUNDING = 2.0**-24

_torch: Any = torch  # the kernels below have no type stubs


@dataclass(frozen=True, slots=True)
class Kernels:
    """What a model's products may use beside PyTorch's own matrix product.

    Attributes:
        half: FBGEMM on weights in float16 that replace those in float32.
        onednn: oneDNN on a second copy of the weight, for more rows than one.
    """

    half: bool = False
    onednn: bool = False


def choose_kernels(like: Tensor, num_bytes: int) -> Kernels:
    """The fastest that are here.

    Args:
        like: any weight of the model; gives dtype and device.
        num_bytes: of all its weights.
    """
    if like.device.type != "cpu" or like.dtype != torch.float32:
        return Kernels()
    return Kernels(_has_half(), _has_onednn() and num_bytes <= MAX_COPIED_BYTES)


class Product:
    """x W^T + b.

    Args:
        weight: [out, in].
        bias: [out] or None.
        kernels: what it may use.

    Attributes:
        is_half: nothing of `weight` is kept.
        own_bytes: held beside `weight`, or instead of it.
        read_bytes: that a step of several rows reads.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, kernels: Kernels) -> None:
        self.is_half = kernels.half and survives_half(weight)
        self.own_bytes, self.read_bytes = 0, weight.nbytes
        if self.is_half:
            self.own_bytes = self.read_bytes = 2 * weight.numel()
            self.apply, self.add_to = _half(weight, bias)
        elif kernels.onednn:
            self.own_bytes = weight.nbytes
            self.apply, self.add_to = _onednn(weight, bias)
        else:
            self.apply, self.add_to = _plain(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """[T, in] -> [T, out]."""
        return self.apply(x)


def why_not_linears(linears: Iterable[nn.Module], weights: Iterable[Tensor]) -> str | None:
    """Why these cannot be fused, in a few words, or None.

    Args:
        linears: to become products.
        weights: all of the model's.
    """
    weights = list(weights)
    plain = all(type(part) is nn.Linear for part in linears)
    if not plain or not all(weight.is_floating_point() for weight in weights):
        return "quantised weights"
    if len({(weight.device, weight.dtype) for weight in weights}) > 1 or weights[0].is_meta:
        return "weights in several places or of several types"
    return None


def fuse(parts: Sequence[nn.Linear], kernels: Kernels) -> Product:
    """One product of several linears that read the same states; takes their weights over.

    Args:
        parts: their weights become views of the fused one, or empty where that became float16.
        kernels: what it may use.
    """
    weight = by_columns(torch.cat([part.weight.data for part in parts]))
    biases: list[Tensor] = [part.bias for part in parts if part.bias is not None]
    product = Product(weight, torch.cat(biases) if biases else None, kernels)
    start = 0
    for part in parts:
        held = weight[start : start + part.out_features]
        part.weight.data = held.new_empty(0) if product.is_half else held
        start += part.out_features
    return product


def by_columns(weight: Tensor) -> Tensor:
    """[out, in], laid out as is best for products of one row; see `layout.store_by_columns`."""
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        return weight.t().contiguous().t()
    return weight


def survives_half(weight: Tensor) -> bool:
    """Whether float16 holds a float32 weight to better than float32's own rounding.

    A bfloat16 number from 2^-17 to 65504 is a float16 number; smaller ones lose at most 2^-25.
    """
    norm = torch.linalg.vector_norm
    return bool(norm(weight - weight.half().float()) <= FLOAT32_ROUNDING * norm(weight))


@cache
def _has_half() -> bool:
    """Whether this build and this CPU have FBGEMM's float16 product."""
    one = torch.ones(1, 1)
    with warnings.catch_warnings():
        # PyTorch 2.13 says, once, that it will go; without it the next kernel takes over.
        warnings.filterwarnings("ignore", "fbgemm_.* is deprecated")
        try:
            apply, _ = _half(one, None)
            return bool(apply(one) == one)
        except (AttributeError, RuntimeError, TypeError):
            return False


def _has_onednn() -> bool:
    """Whether oneDNN has prepacked products: on x86, where it is not another library."""
    capability = torch.backends.cpu.get_cpu_capability()
    return bool(_torch.backends.mkldnn.is_available()) and capability in ("AVX2", "AVX512")


def _half(weight: Tensor, bias: Tensor | None) -> tuple[Apply, AddTo]:
    linear = _torch.fbgemm_linear_fp16_weight_fp32_activation
    packed = _torch.fbgemm_pack_gemm_matrix_fp16(weight)
    return (
        lambda x: linear(x, packed, bias),
        lambda residual, x: linear(x, packed, bias).add_(residual),
    )


def _onednn(weight: Tensor, bias: Tensor | None) -> tuple[Apply, AddTo]:
    """MKL for one row, where it is faster (x86, float32, torch 2.13)."""
    linear = _torch.ops.mkldnn._linear_pointwise.default
    packed = _torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 16)
    one_row, one_row_to = _plain(weight, bias)

    def apply(x: Tensor) -> Tensor:
        if x.shape[0] == 1:
            return one_row(x)
        product: Tensor = linear(x, packed, bias, "none", [], "")
        return product

    def add_to(residual: Tensor, x: Tensor) -> Tensor:
        return one_row_to(residual, x) if x.shape[0] == 1 else apply(x).add_(residual)

    return apply, add_to


def _plain(weight: Tensor, bias: Tensor | None) -> tuple[Apply, AddTo]:
    columns = weight.t()
    if bias is None:
        return (
            lambda x: torch.mm(x, columns),
            lambda residual, x: torch.addmm(residual, x, columns),
        )
    return (
        lambda x: torch.addmm(bias, x, columns),
        lambda residual, x: torch.addmm(residual, x, columns).add_(bias),
    )
