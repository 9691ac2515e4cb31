"""What a race's figure says of itself: of what it is, how sure it is, where its steps are."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dflash_app.events import DecodeEvent, TextDelta
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace
from tests.fakes import ScriptedPair, script_of
from tests.plugins.test_compare import lane, race, race_on, settings
from tests.ui.conftest import StageOpener
from tests.ui.stage import SAMPLING, last, texts, two_lanes

PLAIN = script_of((2,), (3,), (4,), (5,), (6,), (7,))
THREES = script_of((2, 3, 4), (5, 6, 7), num_draft=3)
TWOS = script_of((2, 3), (4, 5), (6, 7), num_draft=3)


def later(script: list[DecodeEvent], *pauses_s: float) -> list[DecodeEvent]:
    """The script with pauses: before its first token, before its first step, and so on."""
    pauses, late_s = iter(pauses_s), 0.0
    moved: list[DecodeEvent] = []
    for event in script:
        if isinstance(event, TextDelta):
            moved.append(event)
            continue
        late_s += next(pauses, 0.0)
        moved.append(replace(event, elapsed_s=event.elapsed_s + late_s))
    return moved


def outcomes(workspace: Workspace, pair: ScriptedPair, *races: Any) -> Iterator[str]:
    """What is said at the end of each race, whose prompt and scripts are given."""
    blocks = build_page(workspace, LiveRuns())
    for prompt, *scripts in races:
        pair.scripts = scripts
        yield str(last(race_on(blocks, prompt))["race-outcome"])


def test_the_figure_is_of_decoding_and_what_was_saved_is_of_the_times_shown(
    open_stage: StageOpener,
) -> None:
    pair = ScriptedPair([PLAIN, later(THREES, 0.25)])
    shown = last(race(open_stage(lambda: pair)))
    assert "2.00 s" in shown["race-cards-ar"]
    assert "1.25 s" in shown["race-cards-dflash"]
    assert "3.00× <small>decoding (1.60× with the prompt)" in shown["race-outcome"]
    assert "750 ms and 4 target steps saved" in shown["race-outcome"]
    assert "This is one run.<" in shown["race-outcome"]


def test_a_run_of_less_than_a_second_gives_two_digits(open_stage: StageOpener) -> None:
    pair = ScriptedPair([script_of((2,), (3,), (4,)), script_of((2, 3, 4), num_draft=3)])
    shown = last(race(open_stage(lambda: pair)))["race-outcome"]
    assert "3.0× <small>decoding (1.7× with the prompt)" in shown


def test_races_of_the_same_prompt_lanes_and_settings_tell_how_figures_vary(
    open_stage: StageOpener,
) -> None:
    pair = ScriptedPair([])
    workspace = open_stage(lambda: pair)
    said = list(
        outcomes(
            workspace, pair,
            ("How many?", PLAIN, THREES),
            ("How many", PLAIN, THREES),
            ("How many?", PLAIN, TWOS),
        )
    )  # fmt: skip
    assert ["This is one run.<" in each for each in said] == [True, True, False]
    assert "median 2.50× of 2 races like it in the run log, 2.00× to 3.00×." in said[2]
    other = settings([*settings()[:6]], [lane("ar"), lane("dflash", block="3")])
    assert "This is one run.<" in last(race(workspace, values=other))["race-outcome"]
    assert workspace.store.count_runs() == 8


@pytest.mark.parametrize("interrupted", [0, 1])
def test_a_lane_whose_steps_were_interrupted_says_that_the_machine_was_busy(
    open_stage: StageOpener, interrupted: int
) -> None:
    pair = ScriptedPair([])
    scripts = [script_of(*[(2,)] * 24), script_of(*[(2, 2)] * 12, num_draft=3)]
    uneven = list(scripts)
    uneven[interrupted] = later(scripts[interrupted], *[0.0, 0.0, 0.0, 0.75] * 6)
    races = [("How many?", *scripts), ("How many?", *uneven)]
    quiet, busy = outcomes(open_stage(lambda: pair), pair, *races)
    assert "busy" not in quiet
    assert "The machine was busy with something else meanwhile" in busy


def test_each_lane_links_to_its_steps(open_stage: StageOpener) -> None:
    workspace = open_stage(two_lanes)
    looks = [texts(update) for update in race(workspace)]
    assert "run-link" not in looks[0]["race-lanes"]
    shown = {key: value for look in looks for key, value in look.items()}
    dflash, ar = workspace.store.list_runs()
    assert (ar.start.mode, dflash.start.mode) == ("ar", "dflash")
    found = {key: value for key, value in shown.items() if "run-link" in str(value)}
    assert f'href="#run-{ar.id}"' in "".join(found.values())
    assert f'href="#run-{dflash.id}"' in "".join(found.values())


def test_nobody_stopped_a_race_that_was_refused(open_stage: StageOpener) -> None:
    lanes = [lane("ar"), lane("dflash", precision="bfloat16")]
    shown = last(race(open_stage(two_lanes), values=settings(lanes=lanes)))
    assert "choose lanes of one pair" in shown["race-notice"]
    assert "Stopped" not in shown["race-status"]
    assert "After a race, every token" in shown["race-strip"]


def test_sampled_races_are_alike_though_each_draws_a_seed(open_stage: StageOpener) -> None:
    workspace = open_stage(two_lanes)
    sampled = settings(sampling=[64, 0.7, *SAMPLING[2:]])
    last(race(workspace, values=sampled))
    assert "of 2 races like it" in last(race(workspace, values=sampled))["race-outcome"]
