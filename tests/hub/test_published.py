"""Published figures are told as the registry has them, with what they are for and were made on."""

import pytest

from dflash_app.hub.published import USES, figures_for, is_for
from dflash_app.registry.load import load_registry
from dflash_app.registry.pair import Benchmark, Pair, Result
from dflash_app.settings import find_bundled

H200 = "NVIDIA H200"


def pair_with(*tables: Benchmark, block_size: int | None = 16) -> Pair:
    return Pair.model_validate(
        {
            "name": "p", "title": "P", "family": "qwen3", "target": {"repo": "o/t"},
            "drafter": {"repo": "o/d"}, "block_size": block_size, "benchmarks": tables,
        }
    )  # fmt: skip


def table(setup: str | None, *results: Result, source: str = "a paper") -> Benchmark:
    return Benchmark(source=source, setup=setup, results=results)


@pytest.mark.parametrize(
    ("setup", "hardware", "here"),
    [
        ("Transformers, H200, temperature 0, at most 2048 new tokens", [H200], True),
        ("Transformers, H200", ["NVIDIA H100 80GB HBM3"], False),
        ("Transformers, H200", [], False),
        ("SGLang, 4x B200", ["NVIDIA B200"] * 4, True),
        ("SGLang, 4x B200", ["NVIDIA B200"], False),
        ("SGLang, B200", ["NVIDIA GB200"], False),
        ("MLX 0.31.1, M5 Max 64 GB, 4-bit target", ["Apple M5 Max"], True),
        ("MLX 0.31.1, M5 Max 64 GB, 4-bit target", ["Apple M5"], False),
        ("llama.cpp, RTX 4090", ["NVIDIA GeForce RTX 4090"], True),
        ("vLLM, thinking on", [H200], None),
        (None, [H200], None),
    ],
)
def test_a_setup_is_for_this_hardware_by_model_and_number(
    setup: str | None, hardware: list[str], here: bool | None
) -> None:
    assert is_for(setup, hardware) is here


def test_the_figures_of_a_use_are_one_tables_rows_for_single_requests() -> None:
    pair = pair_with(
        table(
            "SGLang, B200",
            Result(task="HumanEval", speedup=4.0, acceptance_length=6.5, concurrency=1),
            Result(task="MBPP", speedup=3.0, concurrency=1),
            Result(task="HumanEval", speedup=2.0, concurrency=32),
            Result(task="GSM8K", speedup=9.0),
        )
    )
    found = figures_for(pair, "code", [H200])
    assert found is not None
    assert (found.speedup, found.acceptance_length, found.here) == (3.5, 6.5, False)
    assert found.say() == (
        "speedup 3.50x on average: 4x on HumanEval, 3x on MBPP "
        "(a paper; SGLang, B200; other hardware)"
    )
    assert figures_for(pair, "chat") is None
    long = figures_for(pair, "long context")
    assert long is not None
    assert len(long.results) == 3


def test_the_table_for_this_hardware_counts_before_those_with_more_rows() -> None:
    rows = [Result(task=name, speedup=3.0) for name in ("GSM8K", "AIME25", "Math500", "gsm8k")]
    here = table("H200", Result(task="gsm8k", speedup=2.0))
    pair = pair_with(table("B200", *rows), here, table(None, *rows[:2]))
    found = figures_for(pair, "maths", [H200])
    assert found is not None
    assert (found.setup, found.speedup) == ("H200", 2.0)
    elsewhere = figures_for(pair, "maths", [])
    assert elsewhere is not None
    assert "from 3x to 3x on 4 tasks (a paper; B200; other hardware)" in elsewhere.say()


def test_of_several_block_sizes_the_drafters_own_counts_and_acceptance_stands_alone() -> None:
    rows = [Result(task="mt-bench", acceptance_length=float(n), block_size=n) for n in (4, 8, 16)]
    for block_size, length in ((8, 8.0), (None, 16.0)):
        found = figures_for(pair_with(table(None, *rows), block_size=block_size), "chat")
        assert found is not None
        assert (found.speedup, found.acceptance_length) == (None, length)
        assert (
            found.say() == f"acceptance length {length:g} on mt-bench (a paper; hardware not told)"
        )


def test_every_table_of_the_bundled_registry_that_tells_its_hardware_is_understood() -> None:
    pairs = load_registry([find_bundled("model_registry.yaml")]).pairs
    for use in USES:
        assert sum(figures_for(pair, use) is not None for pair in pairs) > 10
    setups = {table.setup for pair in pairs for table in pair.benchmarks if table.setup}
    silent = {setup for setup in setups if is_for(setup, []) is None}
    assert not [setup for setup in silent if "00" in setup.replace("4096 new", "")]
