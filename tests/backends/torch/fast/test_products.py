"""A product is x W^T + b by every kernel, and half precision is used only where nothing is lost."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from dflash_app.backends.torch.fast.products import (
    Kernels,
    Product,
    choose_kernels,
    fuse,
    survives_half,
)

HERE = choose_kernels(torch.ones(1), 0)
KERNELS = [Kernels()]
if HERE.half:
    KERNELS.append(Kernels(half=True))
if HERE.onednn:
    KERNELS.append(Kernels(onednn=True))


def linear(size_in: int, size_out: int, *, bias: bool) -> nn.Linear:
    torch.manual_seed(size_in + size_out)
    made = nn.Linear(size_in, size_out, bias=bias)
    made.weight.data = made.weight.data.bfloat16().float()
    return made.requires_grad_(False)


@pytest.mark.parametrize("kernels", KERNELS, ids=str)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("num_rows", [1, 2, 15, 16, 70])
def test_fused_linears_are_the_linears(kernels: Kernels, bias: bool, num_rows: int) -> None:
    parts = [linear(24, size, bias=bias) for size in (40, 8, 3)]
    x, residual = torch.randn(num_rows, 24), torch.randn(num_rows, 51)
    expected = torch.cat([part(x) for part in parts], dim=-1)
    before = residual.clone()
    product = fuse(parts, kernels)
    assert torch.allclose(product(x), expected, atol=1e-5)
    assert torch.allclose(product.add_to(residual, x), residual + expected, atol=1e-5)
    assert torch.equal(residual, before)


@pytest.mark.parametrize("kernels", KERNELS, ids=str)
def test_weights_are_held_once_or_counted(kernels: Kernels) -> None:
    parts = [linear(24, size, bias=False) for size in (40, 8)]
    product = fuse(parts, kernels)
    kept = sum(part.weight.nbytes for part in parts)
    if product.is_half:
        assert (kept, product.own_bytes) == (0, 48 * 24 * 2)
        return
    assert kept == 48 * 24 * 4
    assert product.own_bytes == (kept if kernels.onednn else 0)
    storages = {part.weight.untyped_storage().data_ptr() for part in parts}
    assert len(storages) == 1


def test_half_precision_is_only_for_weights_that_survive_it() -> None:
    weight = torch.randn(64, 64)
    assert survives_half(weight.bfloat16().float())
    assert survives_half(weight.half().float())
    assert survives_half(torch.cat([weight.bfloat16().float(), torch.full((1, 64), 1e-9)]))
    assert not survives_half(weight)
    assert not survives_half(weight.bfloat16().float() * 1e-7)
    assert not survives_half(weight.bfloat16().float() * 1e6)
    assert not Product(weight, None, Kernels(half=True)).is_half


def test_a_row_is_the_same_alone_and_in_a_block() -> None:
    if not HERE.half:
        pytest.skip("this PyTorch has no FBGEMM")
    product = fuse([linear(48, 96, bias=False)], Kernels(half=True))
    x = torch.randn(16, 48)
    block = product(x)
    assert all(torch.equal(product(x[i : i + 1])[0], block[i]) for i in range(16))


def test_other_dtypes_take_pytorchs_own_product() -> None:
    assert choose_kernels(torch.ones(1, dtype=torch.bfloat16), 0) == Kernels()
    assert not choose_kernels(torch.ones(1), 1 << 40).onednn


def test_without_fbgemm_another_kernel_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from dflash_app.backends.torch.fast import products

    def gone(*_: Any) -> None:
        raise RuntimeError("not compiled with fbgemm")

    products._has_half.cache_clear()
    monkeypatch.setattr(torch, "fbgemm_pack_gemm_matrix_fp16", gone)
    try:
        assert not choose_kernels(torch.ones(1), 0).half
    finally:
        products._has_half.cache_clear()
        monkeypatch.undo()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            choose_kernels(torch.ones(1), 0)
