"""The dtype of training is the one that the machine at hand is faster in."""

import pytest
import torch

from dflash_app.training import precision
from dflash_app.training.precision import resolve_dtype


def test_a_named_dtype_is_taken_without_measuring(monkeypatch):
    monkeypatch.setattr(precision, "_matmul_s", None)
    assert resolve_dtype("float32", print) is torch.float32
    assert resolve_dtype("bfloat16", print) is torch.bfloat16


@pytest.mark.parametrize("faster", [torch.float32, torch.bfloat16])
def test_auto_takes_the_faster_one_and_says_so(monkeypatch, faster):
    monkeypatch.setattr(precision, "_matmul_s", lambda dtype: 0.001 if dtype is faster else 0.002)
    said = []
    assert resolve_dtype("auto", said.append) is faster
    assert said == [f"computing in {str(faster).removeprefix('torch.')}: a product takes 1.00 ms"]


def test_auto_measures_this_machine():
    assert resolve_dtype("auto", print) in (torch.float32, torch.bfloat16)
