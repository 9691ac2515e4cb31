"""The Compare tab's events: two lanes, the speedup, the verdict, and a way out of each."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import gradio as gr

from dflash_app.errors import GenerationFailed
from dflash_app.events import StepDone, TextDelta
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace
from tests.fakes import ScriptedPair, script_of
from tests.ui.conftest import StageOpener
from tests.ui.stage import (
    SAMPLING,
    PacedPair,
    bar,
    find_handler,
    last,
    play,
    texts,
    two_lanes,
    visitor,
)


def race(
    workspace: Workspace, prompt: str = "How many?", values: list[Any] | None = None
) -> Iterator[dict[Any, Any]]:
    return race_on(build_page(workspace, LiveRuns()), prompt, values)


def race_on(
    blocks: gr.Blocks, prompt: str = "How many?", values: list[Any] | None = None
) -> Iterator[dict[Any, Any]]:
    yield from play(blocks, "on_race", prompt, visitor(), *(values or [*bar(), *SAMPLING]))


def test_both_lanes_end_with_speedup_and_identical(open_stage: StageOpener) -> None:
    workspace = open_stage(two_lanes)
    shown = last(race(workspace))
    assert "4.0 tok/s" in shown["race-cards-ar"]
    assert "12.0 tok/s" in shown["race-cards-dflash"]
    assert "bcdefgh" in shown["race-text-ar"]
    assert "bcdefgh" in shown["race-text-dflash"]
    assert "3.00×" in shown["race-outcome"]
    assert "✓ identical" in shown["race-outcome"]
    runs = workspace.store.list_runs()
    assert {run.start.mode for run in runs} == {"ar", "dflash"}
    assert len({run.start.group_id for run in runs}) == 1


def test_the_first_token_that_differs_is_shown_with_both_logits(open_stage: StageOpener) -> None:
    lanes = [script_of((2,), (3,)), script_of((2, 9), num_draft=3)]
    pair = ScriptedPair(lanes, logits={3: 4.5, 9: 4.25})
    shown = last(race(open_stage(lambda: pair)))["race-outcome"]
    assert "differs" in shown
    assert "identical<" not in shown
    assert "&#x27;d&#x27; 4.5000" in shown
    assert "&#x27;j&#x27; 4.2500" in shown


def test_a_race_takes_the_drafter_even_where_none_is_chosen(open_stage: StageOpener) -> None:
    pair = two_lanes()
    last(race(open_stage(lambda: pair), values=[*bar(drafter="none"), *SAMPLING]))
    assert {request.mode for request in pair.requests} == {"ar", "dflash"}


def test_both_lanes_are_warmed_up_alike_once_after_loading_and_unrecorded(
    open_stage: StageOpener,
) -> None:
    pair = two_lanes()
    workspace = open_stage(lambda: pair)
    blocks = build_page(workspace, LiveRuns())
    last(race_on(blocks))
    last(race_on(blocks))
    asked = [(request.mode, request.max_new_tokens) for request in pair.requests]
    assert asked == [("ar", 8), ("dflash", 8), *[("ar", 64), ("dflash", 64)] * 2]
    assert workspace.store.count_runs() == 4
    workspace.unload()
    pair = two_lanes()
    last(race_on(blocks))
    assert len(pair.requests) == 4


def test_the_dflash_lane_may_adapt_and_tells_when_it_falls_back(open_stage: StageOpener) -> None:
    pair = two_lanes()
    dflash = list(pair.scripts[1])
    dflash[4] = replace(cast(StepDone, dflash[4]), note="AR fallback: why")
    pair.scripts = [pair.scripts[0], dflash]
    shown = last(race(open_stage(lambda: pair), values=[*bar(), *SAMPLING[:-1], "adaptive"]))
    assert pair.requests[-1].policy == "adaptive"
    assert "after 4 tokens</b> AR fallback: why" in shown["race-notes"]
    assert "✓ identical" in shown["race-outcome"]


def test_a_pair_without_drafter_cannot_race(open_stage: StageOpener) -> None:
    shown = last(race(open_stage(two_lanes), values=[*bar("lonely", "none"), *SAMPLING]))
    assert "lonely has no drafter to race: choose another pair." in shown["race-notice"]


def test_an_empty_prompt_and_a_missing_pair_are_explained(open_stage: StageOpener) -> None:
    workspace = open_stage(two_lanes)
    assert "The prompt is empty" in last(race(workspace, " "))["race-notice"]
    absent = last(race(workspace, values=[*bar("absent", "absent"), *SAMPLING]))
    assert "dflash-app hub pull absent" in absent["race-notice"]


def test_a_failure_is_one_sentence_and_gives_the_button_back(open_stage: StageOpener) -> None:
    lanes = [script_of((2,), (3,)), [GenerationFailed("Out of memory: choose a smaller pair.")]]
    shown = last(race(open_stage(lambda: ScriptedPair(lanes))))
    assert "Out of memory: choose a smaller pair." in shown["race-notice"]
    assert "race-outcome" not in shown or shown["race-outcome"] == ""
    assert "dot" not in shown["race-status"]


def test_stop_ends_both_lanes(open_stage: StageOpener) -> None:
    pair = PacedPair([script_of(*[(2,)] * 500), script_of(*[(2,)] * 500)], pause_s=0.005)
    pair.gate.set()
    workspace = open_stage(lambda: pair)
    blocks = build_page(workspace, LiveRuns())
    updates = race_on(blocks)
    for update in updates:
        if ">bc" in texts(update).get("race-text-ar", ""):
            break
    find_handler(blocks, "CompareTab.on_stop")(visitor())
    assert "Stopped." in last(updates)["race-status"]
    assert pair.was_closed_early
    assert {run.finish_reason for run in workspace.store.list_runs()} == {"cancelled"}


def test_what_the_lanes_say_is_no_markup(open_stage: StageOpener) -> None:
    script = script_of((2,), (3,))
    script.insert(1, TextDelta("<img src=x onerror=alert(1)>"))
    shown = last(race(open_stage(lambda: ScriptedPair([script, script]))))
    assert "<img" not in shown["race-text-ar"] + shown["race-text-dflash"]
