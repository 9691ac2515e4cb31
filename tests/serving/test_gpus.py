"""Names of GPUs."""

import pytest

from dflash_app.errors import PlanError
from dflash_app.registry.pair import Pair
from dflash_app.serving.gpus import find_gpu, usual_gpu


@pytest.mark.parametrize("name", ["H200-141", "h200-141", " h200 ", "H200"])
def test_a_gpu_is_found_by_its_name_with_or_without_gigabytes(name: str) -> None:
    gpu = find_gpu(name)
    assert (gpu.name, gpu.memory_bytes, gpu.generation) == ("H200-141", 141 * 10**9, "hopper")


def test_a_machine_without_a_gpu_has_a_name_too() -> None:
    assert find_gpu("cpu").is_cpu


def test_an_unknown_gpu_needs_its_memory_and_a_known_one_may_have_another() -> None:
    with pytest.raises(PlanError, match=r"'MI300X' is not known: choose H100-80, .*-memory-gb"):
        find_gpu("MI300X")
    gpu = find_gpu("MI300X", 192)
    assert (gpu.name, gpu.memory_bytes, gpu.generation) == ("MI300X", 192 * 10**9, "unknown")
    assert find_gpu("h100", 94).generation == "hopper"


@pytest.mark.parametrize(
    ("name", "seen", "planned", "told"),
    [
        ("embedded", (), "cpu", "planned for its processor"),
        ("embedded", ("NVIDIA H200",), "H100-80", "this machine has NVIDIA H200"),
        ("qwen3-8b", (), "H100-80", "No NVIDIA GPU is seen on this machine: planned for H100-80"),
    ],
)
def test_where_no_gpu_is_named_the_plan_says_what_it_is_for(
    name: str, seen: tuple[str, ...], planned: str, told: str, pairs: dict[str, Pair]
) -> None:
    gpu, why = usual_gpu(pairs[name], seen)
    assert gpu.name == planned
    assert told in why


@pytest.mark.parametrize("memory_gb", [0, -1, float("nan"), float("inf")])
def test_a_memory_that_is_none_is_refused(memory_gb: float) -> None:
    with pytest.raises(PlanError, match="cannot be planned for"):
        find_gpu("h100", memory_gb)
