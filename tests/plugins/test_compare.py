"""The Compare tab's events: the lanes, the speedups, the verdicts, and a way out of each."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import gradio as gr
import pytest

from dflash_app.engine.local import LocalPair
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.engine.worker import Worker
from dflash_app.errors import GenerationFailed
from dflash_app.events import StepDone, TextDelta
from dflash_app.registry.pair import Pair
from dflash_app.settings import PublicLimits
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace
from tests.engine.scripted import Costs, FakeTime, ScriptedModels
from tests.engine.tiny_tokenizers import chat_tokenizer
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


def lane(kind: str, **changes: str) -> list[str]:
    """Values of one lane's boxes."""
    boxes = {"drafter": "same", "block": "same", "precision": "same", "drafts": "same", **changes}
    return [kind, *boxes.values()]


def settings(
    chosen: list[str] | None = None,
    lanes: list[list[str]] | None = None,
    sampling: list[Any] = SAMPLING,
) -> list[Any]:
    """Values of the bar, the sampling controls and three lanes."""
    lanes = lanes or [lane("ar"), lane("dflash")]
    rows = [*lanes, *[lane("off")] * (3 - len(lanes))]
    return [*(chosen or bar()), *sampling, *(value for row in rows for value in row)]


def race(
    workspace: Workspace, prompt: str = "How many?", values: list[Any] | None = None
) -> Iterator[dict[Any, Any]]:
    return race_on(build_page(workspace, LiveRuns()), prompt, values)


def race_on(
    blocks: gr.Blocks, prompt: str = "How many?", values: list[Any] | None = None
) -> Iterator[dict[Any, Any]]:
    yield from play(blocks, "on_race", prompt, visitor(), *(values or settings()))


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


def test_loading_tells_how_long_it_takes(open_stage: StageOpener) -> None:
    loaded = threading.Event()

    def load() -> ScriptedPair:
        loaded.wait(10)
        return two_lanes()

    told = []
    for update in race(open_stage(load)):
        told.append(texts(update).get("race-status", ""))
        if "reading the prompt… 1 s" in told[-1]:
            loaded.set()
    assert loaded.is_set(), told
    assert "Loading" not in told[-1]


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
    last(race(open_stage(lambda: pair), values=settings(bar(drafter="none"))))
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
    shown = last(
        race(open_stage(lambda: pair), values=settings(sampling=[*SAMPLING[:-1], "adaptive"]))
    )
    assert pair.requests[-1].policy == "adaptive"
    assert "after 4 tokens</b> AR fallback: why" in shown["race-notes"]
    assert "✓ identical" in shown["race-outcome"]


def test_a_pair_without_drafter_cannot_race(open_stage: StageOpener) -> None:
    shown = last(race(open_stage(two_lanes), values=settings(bar("lonely", "none"))))
    assert (
        "lonely has no drafter to race: choose another pair, or plain decoding"
        in shown["race-notice"]
    )


def test_an_empty_prompt_and_a_missing_pair_are_explained(open_stage: StageOpener) -> None:
    workspace = open_stage(two_lanes)
    assert "The prompt is empty" in last(race(workspace, " "))["race-notice"]
    absent = last(race(workspace, values=settings(bar("absent", "absent"))))
    assert "dflash-app hub pull absent" in absent["race-notice"]


def test_a_failure_is_one_sentence_and_gives_the_button_back(open_stage: StageOpener) -> None:
    lanes = [script_of((2,), (3,)), [GenerationFailed("Out of memory: choose a smaller pair.")]]
    shown = last(race(open_stage(lambda: ScriptedPair(lanes))))
    assert "Out of memory: choose a smaller pair." in shown["race-notice"]
    assert "race-outcome" not in shown or shown["race-outcome"] == ""
    assert "dot" not in shown["race-status"]


def test_stop_ends_both_lanes(open_stage: StageOpener) -> None:
    pair = PacedPair([script_of(*[(2,)] * 120), script_of(*[(2,)] * 120)], pause_s=0.005)
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


def three_lanes() -> ScriptedPair:
    pair = two_lanes()
    pair.scripts = [*pair.scripts, script_of((2, 3), (4, 5), (6, 7), num_draft=2)]
    return pair


THREE = [lane("ar"), lane("dflash"), lane("dflash", block="3", drafts="adaptive")]


def test_a_third_lane_has_a_pane_and_a_verdict_of_its_own(open_stage: StageOpener) -> None:
    pair = three_lanes()
    workspace = open_stage(lambda: pair)
    shown = last(race(workspace, values=settings(lanes=THREE)))
    asked = [(each.mode, each.block_size, each.policy) for each in pair.requests[-3:]]
    assert asked == [("ar", None, "fixed"), ("dflash", None, "fixed"), ("dflash", 3, "adaptive")]
    assert "8.0 tok/s" in shown["race-cards-dflash-2"]
    assert "bcdefgh" in shown["race-text-dflash-2"]
    assert shown["race-outcome"].count("✓ identical") == 2
    assert "3.00×" in shown["race-outcome"]
    assert "2.00×" in shown["race-outcome"]
    assert "DFlash, block 3, adaptive drafts against Plain decoding" in shown["race-outcome"]
    assert len({run.start.group_id for run in workspace.store.list_runs()}) == 1


def test_what_was_saved_is_told_in_tokens_seconds_and_steps(open_stage: StageOpener) -> None:
    shown = last(race(open_stage(two_lanes)))["race-outcome"]
    assert "7 tokens; 1.00 s and 4 target steps saved." in shown


def test_without_plain_decoding_the_first_lane_is_the_baseline(open_stage: StageOpener) -> None:
    lanes = [lane("dflash", block="3"), lane("dflash")]
    shown = last(race(open_stage(two_lanes), values=settings(lanes=lanes)))
    assert "DFlash against DFlash, block 3" in shown["race-outcome"]
    assert "3.00×" in shown["race-outcome"]


def test_lanes_that_say_nothing_follow_the_bar(open_stage: StageOpener) -> None:
    pair = two_lanes()
    chosen = ["scripted", "scripted", "4", "float32", "auto", "script"]
    last(race(open_stage(lambda: pair), values=settings(chosen)))
    assert [each.block_size for each in pair.requests[-2:]] == [None, 4]


def test_sampled_lanes_draw_by_one_seed_that_the_command_tells(open_stage: StageOpener) -> None:
    pair = two_lanes()
    sampling = [64, 0.7, *SAMPLING[2:]]
    shown = last(race(open_stage(lambda: pair), values=settings(sampling=sampling)))
    seeds = {each.sampling.seed for each in pair.requests[-2:]}
    assert len(seeds) == 1
    assert f"--seed {seeds.pop()}" in shown["race-command"]


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (lane("fast"), "is no lane"),
        (lane("dflash", block="many"), "is no block size"),
        (lane("dflash", drafts="wild"), "is no draft length"),
        (lane("dflash", drafter="nobody"), "nobody"),
        (lane("dflash", block="1"), "block_size"),
    ],
)
def test_a_box_that_holds_what_it_does_not_offer_is_named(
    open_stage: StageOpener, boxes: list[str], words: str
) -> None:
    pair = two_lanes()
    shown = last(race(open_stage(lambda: pair), values=settings(lanes=[lane("ar"), boxes])))
    assert words in shown["race-notice"]
    assert pair.requests == []


def test_lanes_that_the_backend_cannot_hold_at_once_are_refused(open_stage: StageOpener) -> None:
    lanes = [lane("ar"), lane("dflash", precision="bfloat16")]
    shown = last(race(open_stage(two_lanes), values=settings(lanes=lanes)))
    assert "choose lanes of one pair in one precision" in shown["race-notice"]


class DraftersBackend:
    """Pairs of one thread whose target says the same; only the second's drafter is ever right.

    Attributes:
        asked: pair and precision of each that was loaded.
    """

    name = "script"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self._time = FakeTime()

    def unavailable_reason(self) -> None:
        return None

    def load(self, pair: Pair, options: LoadOptions) -> LocalPair:
        return self._open(pair, options, Worker(pair.name))

    def load_beside(self, pair: Pair, options: LoadOptions, host: LoadedPair) -> LocalPair:
        return self._open(pair, options, cast(LocalPair, host).worker, guest=True)

    def _open(
        self, pair: Pair, options: LoadOptions, worker: Worker, *, guest: bool = False
    ) -> LocalPair:
        self.asked.append((pair.name, options.dtype))
        models = ScriptedModels(
            lambda prefix: 40 + len(prefix) % 50,
            accepts=(3 if pair.name == "second" else 0,),
            dtype=options.dtype or "float32",
            time=self._time,
            costs=Costs(verify_s=0.2),
        )
        return LocalPair(
            name=pair.name, backend=self.name, tokenizer=chat_tokenizer(), models=models,
            worker=worker, now=self._time, guest=guest,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "loaded", "acceptance", "words"),
    [
        ({"drafter": "second"}, ("second", None), 4, "DFlash, second against"),
        ({"precision": "bfloat16"}, ("scripted", "bfloat16"), 1, "DFlash, bfloat16 against"),
    ],
)
def test_a_third_lane_runs_with_its_own_drafter_or_precision_and_shows_its_own_figures(
    open_stage: StageOpener,
    changes: dict[str, str],
    loaded: tuple[str, str | None],
    acceptance: int,
    words: str,
) -> None:
    workspace, backend = open_stage(two_lanes), DraftersBackend()
    workspace._backends["script"] = backend
    lanes, sampling = [lane("ar"), lane("dflash"), lane("dflash", **changes)], [41, *SAMPLING[1:]]
    shown = last(race(workspace, values=settings(lanes=lanes, sampling=sampling)))
    assert backend.asked == [("scripted", None), loaded]
    runs = {run.id: run for run in workspace.store.list_runs()}
    third = runs[max(runs)]
    assert (third.start.pair, third.start.dtype) == (loaded[0], loaded[1] or "float32")
    assert "5.0 tok/s" in shown["race-cards-dflash"]
    assert f"{acceptance * 5}.0 tok/s" in shown["race-cards-dflash-2"]
    assert f"{acceptance}.00<" in shown["race-cards-dflash-2"]
    assert words in shown["race-outcome"]
    assert f"{acceptance}.00×" in shown["race-outcome"]
    assert shown["race-outcome"].count("✓ identical") == 2


def test_the_heading_of_the_folded_settings_tells_which_were_changed(
    open_stage: StageOpener,
) -> None:
    blocks = build_page(open_stage(two_lanes), LiveRuns())
    (head,) = (
        event.fn
        for event in blocks.fns.values()
        if [each.elem_id for each in event.outputs] == ["race-settings"]
    )
    begun = [512, *SAMPLING[1:]]
    assert head(*begun).label == "Sampling and limits of all lanes"
    told = "Sampling and limits of all lanes: 64 tokens, temperature 0.7"
    assert head(64, 0.7, *SAMPLING[2:]).label == told


def test_a_command_with_a_hostile_prompt_is_no_markup(open_stage: StageOpener) -> None:
    prompt = "<script>alert(1)</script> ${alert(2)}"
    shown = last(race(open_stage(two_lanes), prompt))
    assert "<script>" not in shown["race-command"]
    assert "dflash-app generate --compare" in shown["race-command"]


def test_lanes_of_a_public_page_stay_with_the_shared_pair_and_precision(
    open_stage: StageOpener,
) -> None:
    pair = two_lanes()
    workspace = open_stage(lambda: pair)
    workspace.settings = replace(workspace.settings, public=PublicLimits())
    lanes = [lane("ar", precision="float16"), lane("dflash", drafter="second", precision="nf4")]
    shown = last(race(workspace, values=settings(lanes=lanes)))
    assert "✓ identical" in shown["race-outcome"]
    assert {run.start.pair for run in workspace.store.list_runs()} == {"scripted"}


def test_what_is_too_much_for_a_public_page_does_not_even_warm_up(
    open_stage: StageOpener,
) -> None:
    pair = two_lanes()
    workspace = open_stage(lambda: pair)
    workspace.settings = replace(workspace.settings, public=PublicLimits(max_prompt_chars=20))
    shown = last(race(workspace, "x" * 21))
    assert "this public page takes 20" in shown["race-notice"]
    assert pair.requests == []
