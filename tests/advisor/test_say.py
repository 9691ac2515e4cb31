import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dflash_app.advisor import acceptance, costs, diagnose, setup
from dflash_app.advisor.diagnose import judge
from dflash_app.advisor.finding import Field, Finding
from dflash_app.advisor.say import (
    WORDS,
    english,
    say_advice,
    say_change,
    say_cost,
    say_finding,
    say_headline,
)
from tests.advisor.cases import case, repeated, steps

CATALOGUE = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
SLOW = steps(repeated([1], 20), propose_s=0.01, verify_s=0.03, host_s=0.01, ttft_s=1.0)


def in_chinese(key: str, /, **figures: object) -> str:
    return str(CATALOGUE[key]["zh"]).format(**figures)


@pytest.mark.parametrize("speak", [english, in_chinese])
def test_every_sentence_finds_its_figures_in_both_languages(speak: Callable[..., str]) -> None:
    found = judge(case(SLOW))
    assert len(found.findings) >= 5
    for finding in found.findings:
        said = say_finding(finding, speak) + say_cost(finding, found, speak)
        assert "{" not in said
        assert not any(mark in say_advice(finding, speak) for mark in "{}")
    assert all(say_headline(found, speak))


def test_figures_are_said_as_they_were_computed() -> None:
    (finding,) = [each for each in judge(case(SLOW)).findings if each.key == "drafting_loses"]
    told = say_finding(finding)
    assert "commits 2.00 tokens and takes as long as 12.50 plain steps (50 against 4 ms)" in told
    assert say_advice(finding).endswith("Estimate: 6.25 times as fast.")
    assert say_change(finding) == "adaptive drafts"
    assert say_cost(finding, judge(case(SLOW))) == "Costs at most 840 ms of 2 s (42%)."


def test_every_key_of_a_rule_and_every_change_has_its_words() -> None:
    source = "".join(
        Path(str(module.__file__)).read_text(encoding="utf-8")
        for module in (acceptance, costs, diagnose, setup)
    )
    keys = re.findall(r'(?:Finding|_shortfall|_slower)\(\s*(?:case, )?"(\w+)"', source)
    pairs = re.findall(r'Finding\(\s*"(\w+)" if .* else "(\w+)"', source)
    keys += [key for pair in pairs for key in pair]
    assert len(set(keys)) > 25
    assert set(keys) <= set(CATALOGUE)
    assert {f"change_{field}" for field in Field.__args__} <= set(CATALOGUE)
    told = {key.removesuffix("_try") for key in CATALOGUE if key.endswith("_try")}
    assert told <= set(CATALOGUE)


def test_a_finding_without_advice_or_change_says_none() -> None:
    finding = Finding("drafting", {"share": 0.2, "propose_ms": 1.0}, lost_s=0.1)
    assert (say_advice(finding), say_change(finding)) == ("", "")
    unknown = Finding("slow_path", {"path": "dynamic cache: recurrent layers"})
    assert say_cost(unknown, judge(case(SLOW))) == CATALOGUE["cost_unknown"]["en"]
