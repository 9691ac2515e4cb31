"""The card of a race: what its file and its picture tell, and what they keep to themselves."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from dflash_app.engine.protocol import LoadOptions
from dflash_app.race import LaneSpec, RaceLane
from dflash_app.registry.load import Registry, load_registry
from dflash_app.settings import Settings
from dflash_app.ui.run_view import RunView
from plugins.compare.fonts import clean, num_undrawn, width, wrap
from plugins.compare.outcome import RaceOutcome, as_json, judge
from plugins.compare.picture import WIDTH, _facts, draw_card
from tests.fakes import (
    Script,
    ScriptedPair,
    ScriptedServerPair,
    ask,
    script_of,
    server_script_of,
)

ROW = """
pairs:
  - name: mine
    title: Mine
    family: qwen3
    target: {{path: {home}/secret-folder/my-target}}
    drafter: {{repo: owner/drafter}}
    backends: [script]
"""
AR, DFLASH = script_of((2,), (3,), (4,)), script_of((2, 3, 4), num_draft=3)
OTHER = script_of((2, 3, 9), num_draft=3)
PROMPT = "A private question"

Judged = Callable[..., RaceOutcome]


@pytest.fixture
def judged(settings: Settings) -> Judged:
    path = settings.home / "pairs.yaml"
    path.write_text(ROW.format(home=settings.home))
    registry: Registry = load_registry([path])

    def one(*scripts: Script, prompt: str = PROMPT, **pair: Any) -> RaceOutcome:
        loaded = ScriptedPair([], name="mine", logits={4: 2.0, 9: 1.5}, **pair)
        modes = ["ar", *["dflash"] * (len(scripts) - 1)]
        requests = [ask(prompt, mode=mode) for mode in modes]
        lanes = [RaceLane(loaded, each, None, "0123456789abcdef") for each in requests]
        specs = [LaneSpec("mine", LoadOptions(num_threads=1), each) for each in requests]
        views = [RunView(colour=False) for _ in scripts]
        for view, script in zip(views, scripts, strict=True):
            view.add([event for event in script if not isinstance(event, BaseException)])
        return judge(lanes, specs, views, registry, None)

    return one


def test_the_file_holds_models_settings_figures_verdict_and_versions(judged: Judged) -> None:
    card = json.loads(json.dumps(as_json(judged(AR, DFLASH), with_prompt=True)))
    plain, dflash = card["lanes"]
    assert card["prompt"] == PROMPT
    assert dflash["drafter"] == {"source": "owner/drafter", "revision": "0123456789abcdef"}
    assert dflash["target"] == {"source": "my-target", "revision": None}
    assert (plain["drafter"], plain["verdict"]) == (None, None)
    assert (dflash["device"], dflash["precision"], dflash["backend"]) == (
        "cpu",
        "float32",
        "script",
    )
    assert dflash["speedup"] == pytest.approx(3.0)
    assert dflash["seconds_saved"] == pytest.approx(0.5)
    assert dflash["figures"]["num_steps"] == 1
    assert dflash["verdict"]["identical"] is True
    assert card["settings"]["max_new_tokens"] == 512
    assert "--compare" in card["command"]
    assert card["app_version"]
    assert card["machine"]["cores"] >= 1
    assert "secret-folder" not in json.dumps(card)


def test_without_the_prompt_no_word_of_it_or_of_the_outputs_is_told(judged: Judged) -> None:
    outcome = judged(AR, OTHER)
    assert outcome.lanes[1].verdict is not None
    assert outcome.lanes[1].verdict.text_b == "j"
    card = as_json(outcome, with_prompt=False)
    assert PROMPT not in json.dumps(card)
    assert "prompt" not in card
    verdict = card["lanes"][1]["verdict"]
    assert (verdict["token_a"], verdict["token_b"], verdict["margin"]) == (4, 9, 0.5)
    assert not {"text_a", "text_b", "explanation"} & set(verdict)
    assert card["command"].endswith("-- -")
    assert draw_card(outcome, with_prompt=False) != draw_card(outcome, with_prompt=True)
    silent = judged(AR, OTHER, prompt="Another one, which is also private")
    same_moment = replace(silent.lanes[0].start, started_at=outcome.lanes[0].start.started_at)
    silent = replace(silent, lanes=(replace(silent.lanes[0], start=same_moment), silent.lanes[1]))
    assert draw_card(silent, with_prompt=False) == draw_card(outcome, with_prompt=False)


@pytest.mark.parametrize(
    "prompt",
    [
        "How many?",
        "196 有多少个正因数？😀👩‍👩‍👧 العربية עברית",
        "a\x00b\x1b[31m\n\n\t" + "\ud800" + "x" * 5000,
        "字" * 3000,
        "long words " * 30_000,
    ],
)
def test_a_picture_is_drawn_of_any_prompt(judged: Judged, prompt: str) -> None:
    outcome = judged(AR, DFLASH, OTHER, prompt=prompt)
    picture = Image.open(io.BytesIO(draw_card(outcome, with_prompt=True)))
    assert picture.format == "PNG"
    assert picture.width == WIDTH
    assert 400 < picture.height < 1400
    assert len(picture.getcolors(1 << 20) or ()) > 10


def test_a_lane_cut_before_its_first_token_is_drawn(judged: Judged) -> None:
    outcome = judged(AR[:0], DFLASH)
    assert outcome.lanes[1].speedup is None
    assert draw_card(outcome, with_prompt=True)


def test_long_text_is_wrapped_and_cut_with_an_ellipsis() -> None:
    lines = wrap(clean("word " * 200), 20, 300, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert all(width(line, 20) <= 300 for line in lines)
    assert wrap("short", 20, 300, 3) == ["short"]


def test_what_no_font_has_is_counted_and_what_nobody_draws_is_left_out() -> None:
    assert clean("a\u200db\ufe0f\x00c\n d") == "abc  d"
    assert num_undrawn("plain text") == 0
    assert num_undrawn("\U0001e290") == 1


SERVED_ROW = """
pairs:
  - name: mine
    title: Mine
    family: unknown
    target: {server: "http://gpu-box:8000/v1", model: org/T}
    drafter: {server: "http://gpu-box:8001/v1", model: org/T}
    backends: [remote]
"""


def test_a_card_of_servers_names_models_and_engine_but_no_address(
    settings: Settings, judged: Judged
) -> None:
    (settings.home / "pairs.yaml").write_text(SERVED_ROW)
    registry = load_registry([settings.home / "pairs.yaml"])
    scripts = [server_script_of((1,), (2,), (3,)), server_script_of((1,), (2, 3))]
    loaded = ScriptedServerPair([], name="mine")
    requests = [ask(PROMPT, mode="ar"), ask(PROMPT)]
    views = [RunView(colour=False) for _ in scripts]
    for view, script in zip(views, scripts, strict=True):
        view.add(script)
    outcome = judge(
        [RaceLane(loaded, each) for each in requests],
        [LaneSpec("mine", LoadOptions(), each) for each in requests],
        views,
        registry,
        "remote",
    )
    card = as_json(outcome, with_prompt=True)
    lane = card["lanes"][1]
    assert lane["target"]["source"] == lane["drafter"]["source"] == "org/T"
    assert (lane["device"], lane["precision"], lane["path"]) == ("server", None, "vLLM 0.32.0")
    assert lane["figures"]["at_client"] is True
    assert (lane["speedup"], lane["verdict"]["identical"]) == (2.0, True)
    facts = _facts(outcome)
    assert "gpu-box" not in json.dumps([card, {key: list(told) for key, told in facts.items()}])
    assert list(facts["card_target"]) == ["org/T (vLLM 0.32.0)"] * 2
    assert "card_client" in facts
    assert draw_card(outcome, with_prompt=True)
