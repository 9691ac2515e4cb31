from dataclasses import replace

import pytest

from dflash_app.advisor import acceptance
from dflash_app.advisor.finding import Change
from dflash_app.advisor.scripts import main_script
from dflash_app.registry.pair import Benchmark, Result
from dflash_app.store.records import RunRecord
from tests.advisor.cases import CHINESE, ENGLISH, PAIR, case, record, repeated, steps

LOW, HIGH = steps(repeated([1], 30)), steps(repeated([5], 40))


def others(**asked: object) -> list[RunRecord]:
    return [record(HIGH, run_id=5, **asked)]


def test_refused_drafts_are_told_with_their_positions() -> None:
    found = acceptance.refused(case(steps(repeated([0, 1, 1, 5], 20))))
    assert found is not None
    assert found.key == "refused"
    assert found.figures["accepted"] == pytest.approx(1.75)
    assert found.figures["first_share"] == 0.75
    assert (found.figures["last_share"], found.figures["halfway"]) == (0, 2)
    assert found.lost_s == pytest.approx(0.2 * (1 - 2.75 / 8))


def test_drafts_that_mostly_stand_are_not_called_refused() -> None:
    assert acceptance.refused(case(steps(repeated([6, 7], 20)))) is None
    assert acceptance.refused(case(steps(repeated([0], 5)))) is None
    late = acceptance.refused(case(steps(repeated([7, 7, 1, 4], 20))))
    assert late is not None
    assert (late.key, late.figures["halfway"]) == ("refused_late", 7)


@pytest.mark.parametrize(
    ("trained", "asked", "output", "told"),
    [
        ("off", "on", ENGLISH, True),
        ("off", None, f"<think>Let me see.</think>{ENGLISH}", True),
        ("on", None, ENGLISH, True),
        ("on", "off", ENGLISH, True),
        ("medium", "low", ENGLISH, True),
        ("off", None, ENGLISH, False),
        ("on", "low", ENGLISH, False),
        ("on", None, f"<think>Let me see.</think>{ENGLISH}", False),
        (None, "on", ENGLISH, False),
    ],
)
def test_another_thinking_mode_than_the_drafters_is_told(
    trained: str | None, asked: str | None, output: str, told: bool
) -> None:
    pair = PAIR.model_copy(update={"thinking": trained})
    found = acceptance.thinking(case(LOW, pair=pair, thinking=asked, output=output))
    assert (found is not None) == told
    if found is not None:
        assert found.key == "thinking_unknown"
        assert found.lost_s is None
        assert found.change == Change("thinking", trained)


def test_a_reply_that_was_cut_does_not_show_that_nothing_was_thought() -> None:
    pair = PAIR.model_copy(update={"thinking": "on"})
    whole = case(LOW, pair=pair)
    cut = replace(whole, record=replace(whole.record, finish_reason="length"))
    assert acceptance.thinking(whole) is not None
    assert acceptance.thinking(cut) is None


def test_a_thinking_mismatch_is_weighed_by_runs_in_the_trained_mode() -> None:
    pair = PAIR.model_copy(update={"thinking": "off"})
    found = acceptance.thinking(case(LOW, pair=pair, thinking="on", others=others(thinking="off")))
    assert found is not None
    assert found.key == "thinking_log"
    assert (found.figures["other"], found.figures["runs"]) == (6, 1)
    assert found.gain == pytest.approx(3)
    assert found.lost_s == pytest.approx(0.3 * 2 / 3)
    same = case(HIGH, pair=pair, thinking="on", others=others(thinking="off"))
    assert acceptance.thinking(same) is None  # it costs nothing here


def test_a_thinking_mismatch_is_weighed_by_published_figures_where_the_log_has_none() -> None:
    rows = (Result(task="GSM8K", acceptance_length=6.0), Result(task="MATH", acceptance_length=8.0))
    table = Benchmark(source="a paper", results=rows)
    pair = PAIR.model_copy(update={"thinking": "off", "benchmarks": (table,)})
    found = acceptance.thinking(case(LOW, pair=pair, thinking="on"))
    assert found is not None
    assert (found.key, found.figures["other"], found.figures["tasks"]) == (
        "thinking_published",
        7,
        2,
    )


@pytest.mark.parametrize(
    ("text", "script"),
    [
        (ENGLISH, "Latin"),
        (CHINESE, "Han or Kana"),
        ("カタカナとひらがなで書かれた文です。", "Han or Kana"),
        ("Сколько делителей у числа сто девяносто шесть?", "Cyrillic"),
        ("def count(n): return n  # " + CHINESE, "Han or Kana"),
        ("12 + 3 = 15", None),
        ("No.", None),
        ("", None),
    ],
)
def test_a_text_is_in_the_script_of_its_letters(text: str, script: str | None) -> None:
    assert main_script(text) == script


def test_an_output_in_another_script_is_told_where_drafts_get_further_elsewhere() -> None:
    found = acceptance.script(case(LOW, output=CHINESE, others=others()))
    assert found is not None
    assert (found.key, found.figures["script"]) == ("script_output", "Han or Kana")
    assert found.lost_s == pytest.approx(0.3 * 2 / 3)
    assert (found.gain, found.change) == (None, None)


def test_a_prompt_in_another_script_is_told_too() -> None:
    asked = ({"role": "user", "content": CHINESE},)
    found = acceptance.script(case(LOW, messages=asked, others=others()))
    assert found is not None
    assert found.key == "script_prompt"


@pytest.mark.parametrize(
    "asked",
    [
        {"events": LOW, "others": others()},  # the same script
        {"events": HIGH, "output": CHINESE, "others": others()},  # no worse than the others
        {"events": LOW, "output": CHINESE},  # nothing to compare with
        {"events": LOW, "output": CHINESE, "others": [record(steps([5] * 9))]},  # too little
        {"events": LOW, "output": CHINESE, "others": others(block_size=16)},  # not comparable
        {"events": LOW, "output": "15", "others": others()},
    ],
)
def test_a_script_is_not_blamed_without_runs_that_did_better(asked: dict[str, object]) -> None:
    assert acceptance.script(case(**asked)) is None  # type: ignore[arg-type]


def test_a_script_that_the_drafter_was_not_trained_on_is_told_without_other_runs() -> None:
    pair = PAIR.model_copy(update={"languages": ("en", "de")})
    found = acceptance.script(case(LOW, output=CHINESE, pair=pair))
    assert found is not None
    assert (found.key, found.figures["languages"], found.lost_s) == (
        "script_trained",
        "en, de",
        None,
    )
    both = PAIR.model_copy(update={"languages": ("en", "zh")})
    assert acceptance.script(case(LOW, output=CHINESE, pair=both)) is None
    unknown = PAIR.model_copy(update={"languages": ("en", "xx")})
    assert acceptance.script(case(LOW, output=CHINESE, pair=unknown)) is None


def test_a_temperature_is_told_where_greedy_runs_accept_more() -> None:
    found = acceptance.temperature(case(LOW, temperature=0.8, others=others()))
    assert found is not None
    assert (found.gain, found.change) == (pytest.approx(3), Change("temperature", 0.0))
    assert acceptance.temperature(case(LOW, others=others())) is None
    assert acceptance.temperature(case(LOW, temperature=0.8)) is None
    assert acceptance.temperature(case(HIGH, temperature=0.8, others=others())) is None


def test_a_drafter_in_fewer_bits_is_told_where_the_whole_one_accepts_more() -> None:
    found = acceptance.drafter_bits(case(LOW, drafter_quantization="nf4", others=others()))
    assert found is not None
    assert found.change == Change("drafter_quantization", None)
    assert acceptance.drafter_bits(case(LOW, others=others())) is None
    assert acceptance.drafter_bits(case(LOW, drafter_quantization="nf4")) is None


def test_a_long_prompt_is_told_where_short_ones_accept_more() -> None:
    long = steps(repeated([1], 30), prompt=4000)
    found = acceptance.long_prompt(case(long, others=others()))
    assert found is not None
    assert (found.figures["prompt"], found.figures["short"]) == (4000, 1000)
    assert acceptance.long_prompt(case(LOW, others=others())) is None
    alike = [record(steps(repeated([5], 40), prompt=3900), run_id=5)]
    assert acceptance.long_prompt(case(long, others=alike)) is None


def test_acceptance_that_falls_along_the_reply_is_told() -> None:
    found = acceptance.falling(case(steps([5] * 10 + [3] * 10 + [1] * 10, prompt=20)))
    assert found is not None
    assert (found.figures["first"], found.figures["last"]) == (6, 2)
    assert found.figures["context"] == 21 + 60 + 40
    assert found.lost_s == pytest.approx(0.2 * (1 - 3 / 6))
    assert acceptance.falling(case(steps(repeated([1, 3, 5], 30)))) is None
    assert acceptance.falling(case(steps([5] * 5 + [1] * 10))) is None


def test_blocks_beyond_the_drafters_positions_are_told_where_they_accept_less() -> None:
    events = steps([5] * 10 + [1] * 10, prompt=20)
    found = acceptance.beyond_drafter(case(events, drafter_positions=81))
    assert found is not None
    assert (found.figures["within"], found.figures["beyond"]) == (6, 2)
    assert found.lost_s == pytest.approx(0.1 * 2 / 3)
    assert acceptance.beyond_drafter(case(events, drafter_positions=4096)) is None
    assert acceptance.beyond_drafter(case(events)) is None
    even = steps([3] * 20, prompt=20)
    assert acceptance.beyond_drafter(case(even, drafter_positions=60)) is None


def test_what_the_drafter_was_trained_on_counts_before_its_config() -> None:
    pair = PAIR.model_copy(update={"trained_context": 81})
    events = steps([5] * 10 + [1] * 10, prompt=20)
    found = acceptance.beyond_drafter(case(events, pair=pair, drafter_positions=4096))
    assert found is not None
    assert (found.key, found.figures["limit"]) == ("beyond_trained", 81)


def test_a_reply_decoded_plainly_by_fallback_says_how_much_of_it() -> None:
    notes = {4: "AR fallback: drafting pauses."}
    events = steps([0, 1, 0, 1, *([-1] * 20)], notes=notes)
    found = acceptance.fallback(case(events, policy="adaptive"))
    assert found is not None
    assert found.figures == {"plain": 20, "tokens": 26, "length": 1.5}
    assert acceptance.fallback(case(events)) is None
    assert acceptance.fallback(case(steps([-1] * 20), policy="adaptive")) is None
