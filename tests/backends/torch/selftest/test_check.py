"""The check of a family finds what is wrong: each test breaks one thing for real."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dflash_app.backends.torch.families import ROLLBACK_KINDS
from dflash_app.backends.torch.selftest import check
from dflash_app.backends.torch.selftest.lossless import check_lossless
from dflash_app.backends.torch.selftest.tiny_families import build_model
from dflash_app.backends.torch.snapshot import SnapshotCache
from dflash_app.backends.torch.target import TorchTarget, load_target
from dflash_app.engine import speculative

ROOT = Path(__file__).parent.parent.parent.parent.parent
EVERY_PRECISION = pytest.mark.parametrize("dtype", check.PRECISIONS.values())


def _target(dtype: torch.dtype = torch.float32) -> Any:
    return TorchTarget(build_model("qwen3").to(dtype))


def _leave_one_rejected_token(cache: Any) -> Any:
    """In every layer, the first rejected key and value stand where the last kept ones should."""
    crop = cache.crop

    def broken(tokens_to_remove: int) -> None:
        rejected: list[tuple[Tensor, Tensor]] = []
        if tokens_to_remove:
            at = slice(tokens_to_remove, tokens_to_remove + 1 or None)
            rejected = [
                (layer.keys[..., at, :].clone(), layer.values[..., at, :].clone())
                for layer in cache.layers
            ]
        crop(tokens_to_remove)
        for layer, (keys, values) in zip(cache.layers, rejected, strict=False):
            layer.keys[..., -1:, :], layer.values[..., -1:, :] = keys, values

    cache.crop = broken
    return cache


@EVERY_PRECISION
def test_a_rejected_token_that_stays_in_the_cache_is_no_rounding(dtype: torch.dtype) -> None:
    target = _target(dtype)
    new_cache = target.new_cache
    target.new_cache = lambda: _leave_one_rejected_token(new_cache())
    problems = check_lossless(target).problems
    assert any("logits are" in problem for problem in problems)


def test_snapshots_where_another_way_is_listed_are_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_snapshots(*args: Any, snapshot: bool) -> TorchTarget:
        return load_target(*args, snapshot=not snapshot)

    monkeypatch.setattr(check, "load_target", by_snapshots)
    result = check.check_family("llama", tmp_path)
    assert all(map(result.lossless, check.PRECISIONS))
    assert not result.ok
    assert "it goes back by snapshot and not by crop" in result.problems


def test_a_second_forward_to_go_back_is_found_whatever_the_cache_calls_itself() -> None:
    target = _target()
    target.new_cache = partial(SnapshotCache, target.model)
    problems = check_lossless(target).problems
    assert problems
    assert all("ran the model again" in problem for problem in problems)


def test_tokens_behind_a_stop_token_or_a_limit_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculative, "_cut", lambda token_ids, eos_ids, limit: token_ids[:limit])
    (problem,) = check_lossless(_target()).problems
    assert problem.startswith("with a stop token 0 tokens into a block, it ends by length after")


def test_a_family_that_does_not_load_is_a_row_that_fails_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(ROLLBACK_KINDS, "llama")
    monkeypatch.setattr(check.FamilyResult, "listed", True)
    result = check.check_family("llama", tmp_path)
    assert not result.ok
    assert result.loaded_as is None
    assert any("'llama' are not supported" in problem for problem in result.all_problems())


def test_only_the_doctors_families_import_the_selftest() -> None:
    package = ROOT / "dflash_app"
    importers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "backends.torch.selftest" in path.read_text(encoding="utf-8")
        and "selftest" not in path.relative_to(package).parts
    }
    assert importers == {"cli/families.py"}
