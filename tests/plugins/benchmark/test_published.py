"""Published figures beside measured ones: the same task, the nearest settings, what differs."""

from dataclasses import replace
from typing import Any

import pytest
from dflash_plugins.benchmark.cells import methods
from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.published import Beside, find_beside, same_task
from dflash_plugins.benchmark.results import BenchmarkResults

from dflash_app.registry.load import load_registry
from dflash_app.registry.pair import Benchmark, ModelRef, Pair, Result
from dflash_app.settings import find_bundled
from tests.plugins.benchmark.measured import HERE, cell, drafted, results, rows, two_cells

PAIR = Pair(
    name="qwen3-8b",
    title="Qwen3 8B",
    family="qwen3",
    target=ModelRef(repo="Qwen/Qwen3-8B"),
    drafter=ModelRef(repo="z-lab/Qwen3-8B-DFlash-b16"),
    block_size=16,
    backends=("torch",),
)
PAPER = "Transformers, H200, thinking off, temperature 0, at most 2048 new tokens"
SERVER = "vLLM, B300, thinking off, greedy, at most 4096 new tokens"


def publish(setup: str | None, *rows: dict[str, Any], pair: Pair = PAIR) -> Pair:
    found = tuple(Result(**{"task": "GSM8K", "speedup": 5.0} | row) for row in rows)
    table = Benchmark(source=f"table {len(pair.benchmarks) + 1}", setup=setup, results=found)
    return pair.model_copy(update={"benchmarks": (*pair.benchmarks, table)})


def measured(**plan: Any) -> BenchmarkResults:
    """Two prompts: DFlash is 4 and 2 times as fast, and prefill takes as long as ever."""
    known = {"pair": "qwen3-8b", "datasets": ("gsm8k",), "thinking": "off"}
    return two_cells(rows([10, 10]), drafted([40, 20]), plan=Plan(**known | plan))


def said(found: Beside) -> tuple[str, ...]:
    return tuple(map(str, found.differences))


def only(found: tuple[Beside, ...]) -> Beside:
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("MATH-500", "math500", True),
        ("Math500", "math500", True),
        ("GSM8K", "gsm8k", True),
        ("MT-Bench", "mt-bench", True),
        ("MBPP", "humaneval", False),
        ("Avg", "gsm8k", False),
    ],
)
def test_tasks_are_the_same_by_letters_and_digits(one: str, other: str, same: bool) -> None:
    assert same_task(one, other) is same


def test_a_row_of_the_papers_kind_is_held_against_mean_times_per_token() -> None:
    found = only(find_beside(measured(), [publish(PAPER, {"acceptance_length": 6.5})]))
    assert (found.kind, found.published_speedup) == ("decoding", 5.0)
    assert found.measured_speedup == pytest.approx(0.1 / ((0.025 + 0.05) / 2))
    assert (found.published_acceptance_length, found.measured_acceptance_length) == (6.5, 5.0)
    assert found.alike
    assert said(found) == ("Transformers there, torch here",)


def test_a_servers_row_is_held_against_throughputs() -> None:
    found = only(find_beside(measured(), [publish(SERVER, {})]))
    plain_s, drafted_s = 2 * (0.1 + 9.9), 0.2 + 99 / 40 + 99 / 20
    assert found.kind == "end to end"
    assert found.measured_speedup == pytest.approx(plain_s / drafted_s)
    assert said(found) == (
        "at most 4096 new tokens there, 2048 here",
        "vLLM there, torch here",
        "other hardware there",
    )


@pytest.mark.parametrize(
    ("source", "setup", "kind"),
    [
        ("drafter's model card (mirror)", None, "end to end"),
        ("drafter's model card", "H200, temperature 1", "end to end"),
        ("a paper", "H200", "decoding"),
        ("drafter's model card", "Transformers, H200", "decoding"),
        ("a README", "MLX 0.31.1, M5 Max 64 GB", "decoding"),
    ],
)
def test_model_cards_divide_throughputs(source: str, setup: str | None, kind: str) -> None:
    pair = publish(setup, {})
    (table,) = pair.benchmarks
    named = pair.model_copy(update={"benchmarks": (table.model_copy(update={"source": source}),)})
    assert only(find_beside(measured(), [named])).kind == kind


def test_only_rows_with_the_cells_settings_stand_beside_it() -> None:
    pair = publish(SERVER, {"concurrency": 1}, {"concurrency": 32}, {"block_size": 8})
    pair = publish("SGLang, B200, temperature 1", {"speedup": 4.0}, pair=pair)
    found = find_beside(measured(), [pair])
    assert [(each.published_concurrency, each.alike) for each in found] == [(1, True)]


@pytest.mark.parametrize(
    ("setup", "row", "plan", "difference"),
    [
        (PAPER, {"concurrency": 8}, {}, "concurrency 8 there, 1 here"),
        (PAPER, {"block_size": 10}, {}, "block size 10 there, 16 here"),
        (PAPER, {}, {"policies": ("adaptive",)}, "drafts of one length there, adaptive ones here"),
        (PAPER, {}, {"temperature": 1.0}, "temperature 0 there, 1 here"),
        ("H200, greedy", {}, {"temperature": 0.6}, "temperature 0 there, 0.6 here"),
        (PAPER, {}, {"thinking": "on"}, "thinking off there, on here"),
        (PAPER, {}, {"thinking": None}, "thinking off there, as the template has it here"),
        ("H200, reasoning effort medium", {}, {}, "thinking medium there, off here"),
    ],
)
def test_where_no_settings_agree_the_nearest_row_says_what_differs(
    setup: str, row: dict[str, Any], plan: dict[str, Any], difference: str
) -> None:
    farther = publish("SGLang, temperature 0.3, thinking max", {"concurrency": 77})
    found = only(find_beside(measured(**plan), [publish(setup, row, pair=farther)]))
    assert not found.alike
    assert difference in said(found)


def test_what_a_source_does_not_tell_is_no_other_setting_and_is_said() -> None:
    found = only(find_beside(measured(), [publish(None, {})]))
    assert found.alike
    assert said(found) == ("engine not told there", "hardware not told there")


def test_servers_were_sent_first_turns_only() -> None:
    plan = Plan(pair="qwen3-8b", datasets=("mt-bench",), thinking="off")
    one = two_cells(rows([10]), drafted([40]), plan=plan, dataset="mt-bench")
    pair = publish(SERVER, {"task": "MT-Bench"})
    assert "first turns only there" in said(only(find_beside(one, [pair])))
    pair = publish(PAPER, {"task": "MT-Bench"})
    assert "first turns only there" not in said(only(find_beside(one, [pair])))


def served(name: str, drafter: str | None) -> Pair:
    url = "http://127.0.0.1:9/v1"
    return Pair(
        name=name,
        title="A server",
        family="unknown",
        target=ModelRef(server=url, model="Qwen/Qwen3-8B"),
        drafter=ModelRef(server=url, model=drafter) if drafter else None,
        backends=("remote",),
    )


def test_of_a_pair_on_a_server_the_rows_of_the_model_it_serves_count() -> None:
    plan = Plan(pair="mine", datasets=("gsm8k",), thinking="off", concurrency=(8,))
    ar, dflash = methods(plan)
    there = replace(HERE, backend="remote", device="gpu:8000", paths="vLLM 0.32.0")
    plain, fast = rows([10]), drafted([40])
    cells = [
        cell(ar, "gsm8k", plain, concurrency=8, where=there),
        cell(dflash, "gsm8k", fast, plain, concurrency=8, where=there),
    ]
    pair = publish(SERVER, {"concurrency": 8})
    found = only(find_beside(results(cells, plan), [served("mine", "Qwen/Qwen3-8B"), pair]))
    assert (found.pair, found.alike) == ("qwen3-8b", True)
    assert said(found) == (
        "at most 4096 new tokens there, 2048 here",
        "the server's hardware is not known here",
    )


def test_other_tasks_other_pairs_and_plain_decoding_have_nothing_beside_them() -> None:
    assert find_beside(measured(), [publish(PAPER, {"task": "MBPP"})]) == ()
    other = publish(PAPER, {}).model_copy(update={"name": "another"})
    assert find_beside(measured(), [other]) == ()
    assert find_beside(measured(modes=("ar", "dflash")), []) == ()


def test_the_papers_table_of_qwen3_8b_is_found_in_the_registry() -> None:
    pairs = load_registry([find_bundled("model_registry.yaml")]).pairs
    found = only(find_beside(measured(), pairs))
    assert (found.source, found.published_speedup) == ("arXiv 2602.06036v2, table 1", 5.15)
    assert (found.published_acceptance_length, found.alike) == (6.54, True)
