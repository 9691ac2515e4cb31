"""What Metal recommends becomes MLX's limits; weights that are too large are never read."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from dflash_app.backends.mlx.loading import check_target, load_models
from dflash_app.backends.mlx.memory import (
    MemoryLimits,
    memory_limits,
    room_warning,
    set_memory_limits,
)
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import LoadError

MAC = {"max_recommended_working_set_size": 16_000_000_000, "memory_size": 24_000_000_000}


def test_limits_follow_what_metal_recommends_and_a_cpu_has_none() -> None:
    assert memory_limits(MAC) == MemoryLimits(16_000_000_000, 1_000_000_000)
    assert memory_limits({"device_name": "AMD"}) is None


def test_mlx_keeps_to_the_limits() -> None:
    before = mx.set_cache_limit(10**9)
    try:
        set_memory_limits(MemoryLimits(10**9, 4_000))
        array = mx.zeros(100_000)
        mx.eval(array)
        del array
        assert mx.get_cache_memory() <= 4_000
        set_memory_limits(None)
        assert mx.set_cache_limit(10**9) == 4_000
    finally:
        mx.set_cache_limit(before)


def test_weights_that_the_gpu_cannot_hold_are_refused_before_they_are_read(
    target_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = target_folder("qwen3")
    size = (folder / "model.safetensors").stat().st_size
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": size // 2})
    with pytest.raises(LoadError, match=r"of this Mac's memory: choose a 4bit"):
        check_target(folder, LoadOptions())
    monkeypatch.setattr(mx, "device_info", lambda: MAC)
    check_target(folder, LoadOptions())


def test_little_room_beside_the_weights_is_said(
    target_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = MemoryLimits(1000, 10)
    assert room_warning(900, limits) is None
    assert room_warning(10**9, None) is None
    assert "long conversations" in str(room_warning(901, limits))
    folder = target_folder("qwen3")
    size = (folder / "model.safetensors").stat().st_size
    before = mx.set_cache_limit(10**9)
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": size})
    try:
        warnings = load_models(folder, None).warnings
    finally:
        mx.set_cache_limit(before)
    assert [warning for warning in warnings if "this Mac's memory" in warning]
