"""Two results of one benchmark: what became worse, what is noise, and what cannot be compared."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.regression import Change, Comparison, compare
from dflash_plugins.benchmark.render_comparison import (
    comparison_markdown,
    comparison_text,
    say_verdict,
    write_comparison,
)
from dflash_plugins.benchmark.results import BenchmarkResults, PromptRow

from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import RequestError
from tests.plugins.benchmark.measured import drafted, results, row, rows, two_cells

NUM = 20


def noisy(mean: float, spread: float = 0.02, *, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [mean * (1 + rng.uniform(-spread, spread)) for _ in range(NUM)]


def bench(
    speed: float = 40, length: float = 5.0, spread: float = 0.02, *, seed: int = 0, **change: Any
) -> BenchmarkResults:
    """Plain decoding at 10 tok/s, and DFlash at this speed and acceptance."""
    plain = rows(noisy(10, 0.02, seed=seed + 100), score=1.0)
    fast = drafted(noisy(speed, spread, seed=seed), length, score=1.0)
    return two_cells(plain, fast, **change)


def verdicts(comparison: Comparison, method: str = "dflash") -> dict[str, str]:
    (found,) = [each for each in comparison.cells if each.method == method]
    return {change.figure: change.verdict for change in found.changes}


def figure(comparison: Comparison, name: str) -> Change:
    (found,) = [each for each in comparison.cells[1].changes if each.figure == name]
    return found


def with_rows(found: BenchmarkResults, fast: Sequence[PromptRow]) -> BenchmarkResults:
    plain = found.cells[0]
    return replace(found, cells=(plain, replace(found.cells[1], rows=tuple(fast))))


def test_results_against_themselves_have_no_change() -> None:
    comparison = compare(bench(), bench())
    assert verdicts(comparison) == dict.fromkeys(
        ("speedup", "decoding", "end to end", "acceptance", "right", "same text as AR"), "same"
    )
    assert not comparison.regressed
    assert comparison.judged
    assert comparison.obstacles == ()
    assert comparison.versions == ()
    assert say_verdict(comparison) == "No regression."


def test_noise_is_no_regression() -> None:
    comparison = compare(bench(seed=1), bench(seed=2))
    assert set(verdicts(comparison).values()) == {"same"}


def test_a_slower_drafter_is_a_regression_of_its_speeds_only() -> None:
    comparison = compare(bench(seed=1), bench(32, seed=2))
    found = verdicts(comparison)
    assert [name for name, verdict in found.items() if verdict == "worse"] == [
        "speedup", "decoding", "end to end",
    ]  # fmt: skip
    assert set(verdicts(comparison, "ar").values()) == {"same"}
    change = figure(comparison, "decoding")
    assert change.low < change.change < change.high < 0
    assert change.change == pytest.approx(-0.2, abs=0.01)
    assert comparison.regressed
    assert say_verdict(comparison).startswith("REGRESSION. gsm8k, DFlash, 1 at a time: speedup")


def test_a_faster_drafter_is_better() -> None:
    comparison = compare(bench(seed=1), bench(60, seed=2))
    assert verdicts(comparison)["decoding"] == "better"
    assert not comparison.regressed


def test_a_change_that_the_questions_do_not_agree_on_is_unclear() -> None:
    fast = [40 if index % 2 else 4.0 for index in range(NUM)]
    slow = [4.0 if index % 2 else 36 for index in range(NUM)]
    plain = rows([10] * NUM)
    comparison = compare(two_cells(plain, drafted(fast)), two_cells(plain, drafted(slow)))
    assert verdicts(comparison)["speedup"] == "unclear"
    assert not comparison.regressed


def test_lost_acceptance_is_a_regression() -> None:
    comparison = compare(bench(), bench(length=4.8))
    assert verdicts(comparison)["acceptance"] == "worse"
    assert figure(comparison, "acceptance").change == pytest.approx(-0.04)


def test_wrong_answers_and_other_texts_than_plain_decodings_are_regressions() -> None:
    before = bench()
    fast = [
        replace(each, score=0.0, output_digest="other") if index < 8 else each
        for index, each in enumerate(before.cells[1].rows)
    ]
    comparison = compare(before, with_rows(before, fast))
    found = verdicts(comparison)
    assert (found["right"], found["same text as AR"]) == ("worse", "worse")
    assert figure(comparison, "right").change == pytest.approx(-0.4)
    assert comparison.cells[1].num_changed == 8


def test_more_failed_prompts_are_a_regression() -> None:
    before = bench()
    last = before.cells[1]
    failed = replace(last, figures=replace(last.figures, num_failed=1))
    comparison = compare(before, replace(before, cells=(before.cells[0], failed)))
    assert comparison.regressed
    assert "1 prompts failed, 0 before" in say_verdict(comparison)


def test_few_questions_are_not_judged_however_often_they_are_asked() -> None:
    def asked(speed: float) -> BenchmarkResults:
        plain = [row(index, 10, repetition=time) for index in range(7) for time in range(5)]
        fast = [row(index, speed, repetition=time) for index in range(7) for time in range(5)]
        return two_cells(plain, fast)

    comparison = compare(asked(40), asked(20))
    assert set(verdicts(comparison).values()) == {"too few"}
    assert not comparison.judged
    assert say_verdict(comparison) == "NOT JUDGED: no figure can be compared."


def test_turns_and_repetitions_stay_with_their_question() -> None:
    # One question of ten lost half of its speed, in all of its thirty turns: that is one draw.
    def asked(speed: float) -> BenchmarkResults:
        fast = [row(0, speed, turn=turn) for turn in range(30)] + rows([40] * 10)[1:]
        plain = [row(0, 10, turn=turn) for turn in range(30)] + rows([10] * 10)[1:]
        return two_cells(plain, fast)

    assert verdicts(compare(asked(40), asked(20)))["decoding"] == "unclear"


@pytest.mark.parametrize(
    ("change", "what", "still_judged"),
    [
        ({"hardware": {"cpu": "other", "cores": 2}}, "hardware", {"acceptance", "right"}),
        ({"plan": Plan(pair="qwen3-4b", datasets=("gsm8k",), thinking="off")}, "pair", set()),
        (
            {"plan": Plan(pair="qwen3-8b", datasets=("gsm8k",), thinking="on")},
            "setting thinking",
            set(),
        ),
        (
            {"plan": Plan(pair="qwen3-8b", datasets=("gsm8k",), thinking="off", max_new_tokens=9)},
            "setting max new tokens",
            set(),
        ),
    ],
)
def test_what_is_not_alike_is_named_first_and_not_judged(
    change: dict[str, Any], what: str, still_judged: set[str]
) -> None:
    comparison = compare(bench(), replace(bench(20, 4.0), **change))
    assert [each.what for each in comparison.obstacles] == [what]
    judged = {name for name, found in verdicts(comparison).items() if found != "not comparable"}
    assert still_judged <= judged
    assert judged.isdisjoint({"speedup", "decoding", "end to end"})
    assert bool(judged) == bool(still_judged)
    text = comparison_text(comparison)
    assert text.index(f"Different {what}") < text.index("gsm8k, AR")


def test_another_device_or_precision_is_named() -> None:
    after = bench()
    there = [replace(each.where[0], precision="float32") for each in after.cells]
    cells = [replace(each, where=(w,)) for each, w in zip(after.cells, there, strict=True)]
    (obstacle,) = compare(bench(), replace(after, cells=tuple(cells))).obstacles
    assert obstacle.what == "device or precision"
    assert obstacle.after == "torch, cuda:0, float32"


def test_versions_models_and_questions_are_named_and_do_not_hinder() -> None:
    after = bench(
        app_version="0.2.0", library_versions={"python": "3.11.7", "torch": "2.14.0"},
        question_digests={"gsm8k": "other"},
    )  # fmt: skip
    comparison = compare(bench(), after)
    assert comparison.versions == (
        "DFlash Studio 0.1.0, then 0.2.0",
        "questions of gsm8k digest of gsm8k, then other",
        "torch 2.13.0, then 2.14.0",
    )
    assert comparison.judged


def test_prompts_whose_text_is_another_now_are_left_out() -> None:
    before = bench()
    fast = [
        replace(each, num_prompt_tokens=999, decode_tok_s=1.0) if index < 3 else each
        for index, each in enumerate(before.cells[1].rows)
    ]
    cell = compare(before, with_rows(before, fast)).cells[1]
    assert (cell.num_pairs, cell.num_other_prompts) == (NUM - 3, 3)
    assert not cell.regressed


def test_cells_that_only_one_has_are_named() -> None:
    both, one = bench(), bench()
    one = replace(one, cells=one.cells[:1])
    assert compare(both, one).only_before == ("gsm8k/dflash/1",)
    assert compare(one, both).only_after == ("gsm8k/dflash/1",)


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(RequestError, match="have no answered prompt in common"):
        compare(bench(), bench(dataset="mbpp"))
    with pytest.raises(RequestError, match="have no answered prompt in common"):
        compare(bench(), results([], Plan(pair="qwen3-8b")))


def test_the_markdown_begins_with_the_verdict_and_keeps_its_tables(tmp_path: Path) -> None:
    names = ("old|<b>.json", "new.json")
    comparison = compare(bench(seed=1), bench(32, seed=2), names)
    page = comparison_markdown(comparison)
    head, verdict = page.split("\n\n")[:2]
    assert head == r"# old\|&lt;b>.json against new.json"
    assert verdict.startswith("**REGRESSION. gsm8k, DFlash")
    change = figure(comparison, "decoding")
    assert f"| decoding | {change.before:.1f} tok/s | {change.after:.1f} tok/s | -" in page
    assert "leaves out zero" in page
    path = write_comparison(comparison, tmp_path / "new")
    assert path.read_text(encoding="utf-8") == page


def test_a_busy_machine_is_guessed_where_plain_decoding_slowed_down_alike() -> None:
    def busy(share: float) -> BenchmarkResults:
        return two_cells(rows([10 * share] * NUM), drafted([40 * share] * NUM))

    assert "the machine may have been busy" in comparison_text(compare(busy(1), busy(0.5)))
    assert "busy" not in comparison_text(compare(bench(seed=1), bench(32, seed=2)))


def test_another_number_of_threads_makes_speeds_incomparable() -> None:
    def threads(count: int | None) -> Plan:
        return Plan("qwen3-8b", ("gsm8k",), thinking="off", options=LoadOptions(num_threads=count))

    comparison = compare(bench(plan=threads(1)), bench(20, plan=threads(None)))
    assert [each.what for each in comparison.obstacles] == ["number of compute threads"]
    assert verdicts(comparison)["decoding"] == "not comparable"
    assert verdicts(comparison)["acceptance"] == "same"
    assert say_verdict(comparison) == "No regression in the figures that are judged."


def test_figures_that_no_run_has_are_refused() -> None:
    after = bench()
    huge = replace(after.cells[1].rows[0], num_output_tokens=10**4000)
    with pytest.raises(RequestError, match="figures that no run has"):
        compare(bench(), with_rows(after, [huge, *after.cells[1].rows[1:]]))
