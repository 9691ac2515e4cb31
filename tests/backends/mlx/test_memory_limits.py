"""What Metal recommends becomes MLX's limits; weights that are too large are never read."""

import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from dflash_app.backends.mlx.backend import MlxBackend
from dflash_app.backends.mlx.loading import check_target, load_models, load_target
from dflash_app.backends.mlx.memory import (
    MemoryLimits,
    estimate_pair,
    memory_limits,
    set_memory_limits,
)
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.engine.protocol import LoadOptions, MemoryKeeper, SetupTeller
from dflash_app.engine.speculative import PREFILL_CHUNK
from dflash_app.errors import LoadError
from dflash_app.hub.memory import MemoryNeed
from dflash_app.request import SamplingParams
from tests.backends.torch.drafter_files import random_drafter

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


def test_a_drafter_that_finds_no_room_beside_a_target_in_memory_is_refused_too(
    target_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = target_folder("qwen3")
    save_drafter(random_drafter(), tmp_path)
    target = load_target(folder, mx.float32)
    need = estimate_pair(folder, tmp_path, LoadOptions(), "float32")
    assert need is not None
    before = mx.set_cache_limit(10**9)
    monkeypatch.setattr(mx, "get_active_memory", target.memory_bytes)
    try:
        monkeypatch.setattr(mx, "device_info", lambda: metal_of(need.bytes_at(1) - 1))
        with pytest.raises(LoadError, match="are free for MLX: choose 4bit"):
            load_models(folder, tmp_path, target=target)
        monkeypatch.setattr(mx, "device_info", lambda: metal_of(need.total_bytes))
        assert not load_models(folder, tmp_path, target=target).warnings
    finally:
        mx.set_cache_limit(before)


def test_the_reserve_covers_the_scores_that_attention_on_the_cpu_writes_down(
    target_folder: Callable[[str], Path],
) -> None:
    length = 4 * PREFILL_CHUNK
    need = need_of(target_folder("qwen3"))
    lane = load_models(target_folder("qwen3"), None).open_lane(SamplingParams(), "ar")
    for _ in range(3):
        lane.extend([5] * PREFILL_CHUNK)
    mx.clear_cache()
    mx.reset_peak_memory()
    held = mx.get_active_memory()
    lane.extend([5] * PREFILL_CHUNK)
    taken = mx.get_peak_memory() - held
    scores = 4 * PREFILL_CHUNK * length * 4  # heads, queries, keys, float32
    assert scores < taken <= need.reserve_bytes(length)


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
