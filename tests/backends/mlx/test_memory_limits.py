"""What Metal recommends becomes MLX's limits; weights that are too large are never read."""

import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from dflash_app.backends.mlx.backend import MlxBackend
from dflash_app.backends.mlx.loading import check_target, load_models
from dflash_app.backends.mlx.memory import (
    MemoryLimits,
    estimate_pair,
    memory_limits,
    set_memory_limits,
)
from dflash_app.engine.protocol import LoadOptions, MemoryKeeper, SetupTeller
from dflash_app.errors import LoadError
from dflash_app.hub.memory import MemoryNeed

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


def metal_of(num_bytes: int) -> dict[str, int]:
    return {"max_recommended_working_set_size": num_bytes}


def need_of(folder: Path, **options: Any) -> MemoryNeed:
    found = estimate_pair(folder, None, LoadOptions(**options), "float32")
    assert found is not None
    return found


def test_a_pair_that_the_gpu_cannot_hold_is_refused_before_it_is_read(
    target_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = target_folder("qwen3")
    least = need_of(folder).bytes_at(1)
    monkeypatch.setattr(mx, "get_active_memory", lambda: 0)
    monkeypatch.setattr(mx, "device_info", lambda: metal_of(least - 1))
    for load in (check_target, lambda folder, options: load_models(folder, None, options)):
        with pytest.raises(LoadError, match="are free for MLX: choose 4bit"):
            load(folder, LoadOptions())
    monkeypatch.setattr(mx, "device_info", lambda: MAC)
    check_target(folder, LoadOptions())


def test_a_context_that_does_not_fit_is_said_and_a_turn_that_does_not_is_refused(
    target_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = target_folder("qwen3")
    need = need_of(folder)
    short = need.context_length // 2
    monkeypatch.setattr(mx, "device_info", lambda: metal_of(need.bytes_at(short)))
    monkeypatch.setattr(mx, "get_active_memory", lambda: 0)
    before = mx.set_cache_limit(10**9)
    try:
        models = load_models(folder, None)
    finally:
        mx.set_cache_limit(before)
    assert [warning for warning in models.warnings if f"about {short:,} tokens" in warning]
    assert [warning for warning in models.warnings if "of freed buffers at most" in warning]
    assert isinstance(models, MemoryKeeper)
    monkeypatch.setattr(mx, "get_active_memory", models.memory_bytes)
    assert models.no_room_reason([short]) is None
    said = models.no_room_reason([need.context_length])
    assert "are free for MLX: lower the limit" in str(said)
    models.free_unused()
    models.close()


@pytest.mark.parametrize(
    ("options", "dtype"),
    [({}, "float32"), ({}, "bfloat16"), ({"quantization": "4bit"}, "bfloat16"),
     ({"quantization": "8bit"}, "bfloat16")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["qwen3", "qwen3_5", "gemma4_text"])
def test_the_estimate_is_what_the_weights_take(
    name: str, options: dict[str, Any], dtype: str, target_folder: Callable[[str], Path]
) -> None:
    folder = target_folder(name)
    need = estimate_pair(folder, None, LoadOptions(**options), dtype)
    models = load_models(folder, None, LoadOptions(dtype=dtype, **options))
    assert need is not None
    assert need.target_bytes == pytest.approx(models.memory_bytes(), rel=0.02)
    models.close()


def test_the_setup_tells_the_device_and_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(MlxBackend(), SetupTeller)
    assert MlxBackend().describe_setup() == f"MLX {version('mlx')}, without Metal"
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert MlxBackend().describe_setup() == f"MLX {version('mlx')} on the cpu: no Metal here"
    monkeypatch.setattr(mx, "device_info", lambda: MAC)
    said = MlxBackend().describe_setup()
    assert "may hold 16.0 GB of this Mac's memory, and MLX keeps 1.0 GB of freed" in said
