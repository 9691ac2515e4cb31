"""The Microscope tab's events: open a run, step through it, see what limits it, try a change."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dflash_app.advisor.finding import Change
from dflash_app.drafters.token_texts import TokenTexts
from dflash_app.drafters.tokenizer import load_tokenizer
from dflash_app.errors import GenerationFailed
from dflash_app.events import DecodeEvent, Finished, PrefillDone, StepDone, TextDelta
from dflash_app.metrics import summarize
from dflash_app.settings import EMBEDDED_DIR, PublicLimits
from dflash_app.store.records import RunStart
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace
from tests.fakes import ScriptedPair, ask, script_of
from tests.ui.conftest import StageOpener
from tests.ui.stage import PacedPair, find_handler, last, one_reply, play, texts, visitor

EVIL = "<img src=x onerror=alert(1)>${alert(2)}"


def losing_steps(count: int = 20) -> list[DecodeEvent]:
    """Two of three drafts refused, each step far dearer than a plain one would be."""
    events: list[DecodeEvent] = [PrefillDone(4, 0, 1, 0.0, 0.5)]
    for step in range(1, count + 1):
        sure = (0.9, 0.5, 0.25)
        events.append(StepDone((2, 3), (2, 8, 9), 1, sure, 0.4, 0.6, 0.5 + step))
    return [*events, Finished("stop", 0.5 + count)]


class Microscope:
    """The tab of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.blocks = build_page(workspace, LiveRuns())

    def add(self, events: Sequence[DecodeEvent], **asked: Any) -> int:
        """Put a run of the scripted pair into the log."""
        start = RunStart(
            source="chat", pair="scripted", backend="script", device="cpu", dtype="float32",
            mode="dflash", policy="fixed", block_size=4, trained_block_size=4, path="static cache",
            messages=({"role": "user", "content": f"How many? {EVIL}"},),
        )  # fmt: skip
        store = self.workspace.store
        run_id = store.start_run(replace(start, **asked))
        metrics = summarize(events)
        store.finish_run(run_id, "stop", output="b", token_ids=[], metrics=metrics, events=events)
        return run_id

    def call(self, name: str, *values: Any) -> dict[Any, Any]:
        update: dict[Any, Any] = find_handler(self.blocks, f"MicroscopeTab.{name}")(*values)
        return update

    def open(self, run_id: int | None) -> tuple[dict[str, Any], Any]:
        """What is shown, and what the browser tab has then."""
        update = self.call("on_open", run_id, visitor())
        opened = next(value for part, value in update.items() if type(part).__name__ == "State")
        return texts(update), opened


@pytest.fixture
def microscope(open_stage: StageOpener) -> Microscope:
    return Microscope(open_stage(one_reply))


def test_without_runs_the_tab_says_what_to_do(microscope: Microscope) -> None:
    shown = texts(microscope.call("on_show", None, None, visitor()))
    assert "send a message in Chat or race in Compare" in shown["microscope-summary"]
    assert shown["microscope-stepper"].visible is False


def test_the_newest_run_is_opened_first_and_the_one_that_is_open_stays(
    microscope: Microscope,
) -> None:
    microscope.add(losing_steps(3))
    newest = microscope.add(losing_steps(9), mode="dflash")
    shown = texts(microscope.call("on_show", None, None, visitor()))
    listed = shown["microscope-run"].choices
    assert [value for _, value in listed] == [newest, newest - 1]
    assert listed[0][0].startswith(f"#{newest} · scripted · DFlash 4 · 2.0 tok/s · How many?")
    assert "Block 1 of 9" in shown["microscope-step"]
    _, opened = microscope.open(newest - 1)
    shown = texts(microscope.call("on_show", opened, None, visitor()))
    assert list(shown) == ["microscope-run"]
    assert shown["microscope-run"].value == newest - 1


def test_a_link_opens_its_run_though_it_is_too_old_to_be_listed(
    microscope: Microscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked, *_ = [microscope.add(losing_steps(3)) for _ in range(3)]
    handler: Any = find_handler(microscope.blocks, "MicroscopeTab.on_show")
    list_runs = handler.__func__.__globals__["list_runs"]
    monkeypatch.setitem(list_runs.__globals__, "MAX_LISTED", 2)
    _, opened = microscope.open(linked + 1)
    shown = texts(microscope.call("on_show", opened, float(linked), visitor()))
    assert [value for _, value in shown["microscope-run"].choices] == [
        linked, linked + 2, linked + 1,
    ]  # fmt: skip
    assert shown["microscope-run"].value == linked
    assert "Block 1 of 3" in shown["microscope-step"]
    gone = texts(microscope.call("on_show", opened, 9999.0, visitor()))
    assert "no longer in the log" in gone["microscope-summary"]
    assert gone["microscope-run"].value is None


def test_a_block_shows_the_fate_of_each_draft_and_how_sure_the_drafter_was(
    microscope: Microscope,
) -> None:
    shown, _ = microscope.open(microscope.add(losing_steps()))
    block = shown["microscope-step"]
    assert "Block 1 of 20: 1 of 3 drafts accepted" in block
    assert "1.00 s: drafting 400 ms, verifying 600 ms, other 0.0 ms" in block
    fates = [part.partition('"')[0] for part in block.split('<li class="')[1:]]
    assert fates == ["accepted", "refused", "behind", "corrected"]
    assert ["90 %" in block, "50 %" in block, "25 %" in block] == [True] * 3


def test_a_step_in_which_all_stand_ends_with_a_bonus_and_a_cut_one_says_so(
    microscope: Microscope,
) -> None:
    events: list[DecodeEvent] = [
        PrefillDone(4, 0, 1, 0.0, 0.5),
        StepDone((2, 3, 4), (2, 3), 2, None, 0.1, 0.1, 0.7),
        StepDone((5,), (5, 6), 2, None, 0.1, 0.1, 0.9),
        Finished("length", 0.9),
    ]
    shown, opened = microscope.open(microscope.add(events))
    assert '<li class="bonus"' in shown["microscope-step"]
    assert "is not recorded for this run" in shown["microscope-summary"]
    cut = texts(microscope.call("on_block", opened, 2))["microscope-step"]
    assert '<li class="cut"' in cut
    assert "the reply ended inside this block" in cut


@pytest.mark.parametrize(
    ("number", "by", "there"), [(1, 1, 2), (1, -1, 1), (20, 1, 20), (99, -1, 19), (-5, 1, 2)]
)
def test_steps_stay_within_the_run(
    microscope: Microscope, number: int, by: int, there: int
) -> None:
    _, opened = microscope.open(microscope.add(losing_steps()))
    shown = texts(microscope.call("on_step", opened, number, by))
    assert shown["microscope-block"] == there
    assert f"Block {there} of 20" in shown["microscope-step"]


def test_without_the_tokenizer_tokens_are_numbers_and_the_tab_says_why(
    microscope: Microscope,
) -> None:
    shown, _ = microscope.open(microscope.add(losing_steps()))
    assert "The tokenizer of scripted is not on this machine" in shown["microscope-summary"]
    assert "#8</span>" in shown["microscope-step"]
    assert "#1</div>" not in shown["microscope-step"]
    assert "<mark>#2 #3</mark>" in shown["microscope-step"]


def test_the_reply_so_far_is_text_with_the_block_marked(microscope: Microscope) -> None:
    ids = [int(each) for each in load_tokenizer(EMBEDDED_DIR / "target").encode("It is 九 – a&b")]
    events: list[DecodeEvent] = [PrefillDone(4, 0, ids[0], 0.0, 0.5)]
    for number, token_id in enumerate(ids[1:], start=1):
        events.append(StepDone((token_id,), (), 0, None, 0.0, 0.1, 0.5 + number / 10))
    _, opened = microscope.open(microscope.add(events, mode="ar", block_size=None))
    run = replace(opened.run, texts=TokenTexts(EMBEDDED_DIR / "target"))
    assert run.texts is not None
    for index in range(len(run.steps)):
        before, block, cut = run.reply_at(index)
        # Half of a character is shown as such until its last token has come.
        assert before + block == run.texts.decode(ids[: index + 2])
        assert not cut
    assert run.reply_at(len(ids) - 2)[0] == "It is 九 – a&"
    shown = texts(microscope.call("on_block", replace(opened, run=run), len(ids) - 1))
    assert "a&amp;" in shown["microscope-step"]


def test_everything_that_a_prompt_or_a_note_says_is_inert(microscope: Microscope) -> None:
    events = losing_steps()
    events[1] = replace(events[1], note=EVIL)  # type: ignore[type-var]
    shown, _ = microscope.open(microscope.add(events))
    everything = "".join(str(value) for value in shown.values())
    assert "&lt;img src=x onerror" in everything
    assert "<img" not in everything


def test_a_plain_run_shows_its_steps_and_says_that_it_drafted_nothing(
    microscope: Microscope,
) -> None:
    plain = [each for each in script_of((2,), (3,)) if not isinstance(each, TextDelta)]
    shown, opened = microscope.open(microscope.add(plain, mode="ar", block_size=None))
    assert "This run decoded plainly" in shown["microscope-summary"]
    assert "Step 1 of 2: no draft" in shown["microscope-step"]
    assert '<li class="plain"' in shown["microscope-step"]
    assert "drafted nothing" in str(shown["chart-scope-positions"].to_dict())
    assert len(shown["chart-scope-time"].data) == 3
    assert [each.change for each in opened.diagnosis.findings] == [None, Change("mode", "dflash")]


@pytest.mark.parametrize("events", [[], [PrefillDone(4, 0, 1, 0.0, 0.5), Finished("stop", 0.5)]])
def test_a_run_without_steps_can_be_opened_or_says_why_not(
    microscope: Microscope, events: list[DecodeEvent]
) -> None:
    shown, _ = microscope.open(microscope.add(events))
    assert shown["microscope-stepper"].visible is False
    told = shown["microscope-summary"]
    assert ("No steps of run 1 were kept" in told) != ("before its first step" in told)


def test_a_run_that_is_gone_or_damaged_says_so(microscope: Microscope) -> None:
    assert "Run 7 is no longer" in microscope.open(7)[0]["microscope-summary"]
    assert "Choose a run above" in microscope.open(None)[0]["microscope-summary"]
    run_id = microscope.add(losing_steps())
    store = microscope.workspace.store
    store._db.execute("UPDATE run_events SET events = x'00'")
    assert "cannot be shown" in microscope.open(run_id)[0]["microscope-summary"]


def test_charts_show_the_runs_own_figures(microscope: Microscope) -> None:
    shown, _ = microscope.open(microscope.add(losing_steps()))
    positions = shown["chart-scope-positions"].data
    assert list(positions[0].y) == [1.0, 0.0, 0.0]
    assert list(positions[1].y) == pytest.approx([0.9, 0.5, 0.25])
    assert list(shown["chart-scope-lengths"].data[0].y) == [0, 20, 0, 0]
    assert set(shown["chart-scope-along"].data[0].y) == {2.0}
    drafting, verifying, neither = shown["chart-scope-time"].data
    assert set(drafting.y) == {400.0}
    assert set(verifying.y) == {600.0}
    assert max(neither.y) == pytest.approx(0, abs=1e-6)
    assert "drafting 8.00 s (39 %)" in shown["microscope-time"]


def test_a_long_run_is_drawn_by_means_of_its_neighbours(microscope: Microscope) -> None:
    shown, _ = microscope.open(microscope.add(losing_steps(1000)))
    along = shown["chart-scope-along"].data[0]
    assert len(along.x) == 112
    assert sum(along.width) == 2000


def test_what_limits_the_run_is_listed_with_a_button_where_something_can_be_tried(
    microscope: Microscope,
) -> None:
    plain: list[DecodeEvent] = [PrefillDone(4, 0, 1, 0.0, 0.5)]
    plain += [StepDone((2,), (), 0, None, 0.0, 0.1, 0.5 + step / 10) for step in range(1, 21)]
    microscope.add(plain, mode="ar", block_size=None, policy=None)
    shown, opened = microscope.open(microscope.add(losing_steps()))
    assert "2 tok/s: a step commits 2.00 tokens and takes 1e+03 ms" in shown["microscope-why"]
    places = {opened.finding(index).key: index for index in range(8) if opened.finding(index)}
    losing = places["drafting_loses"]
    assert "Drafting loses time here" in shown[f"microscope-finding-{losing}"]
    assert shown[f"microscope-try-{losing}"].value == "Try it: adaptive drafts"
    assert shown[f"microscope-try-{losing}"].visible is True
    assert shown[f"microscope-try-{places['drafting']}"].visible is False
    assert opened.finding(8) is None


def trial(microscope: Microscope, change: Change, **asked: Any) -> dict[str, Any]:
    """What stands on the page after a change was tried on a run."""
    _, opened = microscope.open(microscope.add(losing_steps(), **asked))
    finding = replace(opened.finding(0), change=change, gain=1.5)
    opened = replace(opened, diagnosis=replace(opened.diagnosis, findings=(finding,)))
    return last(play(microscope.blocks, "on_try", 0, visitor(), opened))


def test_a_change_is_tried_by_turns_and_both_halves_are_recorded(
    microscope: Microscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dflash_plugins.microscope.trial.MOST_S", float("inf"))
    told = trial(microscope, Change("block_size", 3))["microscope-tried"]
    assert "Tried on the same prompt just now: block size 3" in told
    assert "1.00× as fast as before (median of the pairs run by turns: 3)." in told
    assert "The estimate was 1.50×." in told
    assert "identical, token by token (7 tokens)" in told
    assert "as runs 2 to 7" in told
    runs = microscope.workspace.store.list_runs()[:6]
    assert {run.start.source for run in runs} == {"microscope"}
    assert [run.start.block_size for run in reversed(runs)] == [4, 3, 3, 4, 4, 3]
    assert {run.start.prompt for run in runs} == {f"How many? {EVIL}"}


def test_a_change_is_tried_once_where_that_takes_long(
    microscope: Microscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dflash_plugins.microscope.trial.MOST_S", 0.0)
    told = trial(microscope, Change("block_size", 3))["microscope-tried"]
    assert "(median of the pairs run by turns: 1)" in told


def test_a_change_of_the_loading_is_tried_once_with_the_pair_loaded_anew(
    microscope: Microscope,
) -> None:
    told = trial(microscope, Change("dtype", "bfloat16"))["microscope-tried"]
    assert "(median of the pairs run by turns: 1)" in told
    loads = microscope.workspace._backends["script"].options  # type: ignore[attr-defined]
    assert [options.dtype for options in loads] == [None, "bfloat16"]


def test_a_trial_with_all_cores_is_recorded_apart_from_runs_of_the_page(
    microscope: Microscope,
) -> None:
    trial(microscope, Change("num_threads", 64))
    loads = microscope.workspace._backends["script"].options  # type: ignore[attr-defined]
    assert loads[-1].num_threads == 64
    after, before = microscope.workspace.store.list_runs()[:2]
    assert (before.start.source, after.start.source) == ("microscope", "microscope-threads")


def test_another_output_is_told_with_its_reason(open_stage: StageOpener) -> None:
    replies = iter([script_of((2, 3), num_draft=3), *[script_of((2, 9), num_draft=3)] * 12])

    class Changing(ScriptedPair):
        def stream(self, request: Any) -> Any:
            self.scripts = [next(replies)]
            return super().stream(request)

    microscope = Microscope(open_stage(lambda: Changing([script_of()])))
    told = trial(microscope, Change("block_size", 3))["microscope-tried"]
    assert "differs from token 3 on" in told


@pytest.mark.parametrize(
    ("change", "asked", "told"),
    [
        (Change("thinking", "off"), {}, "the request asks for something else"),
        (Change("block_size", 3), {"temperature": 0.8, "seed": 3}, "draws its own tokens"),
    ],
)
def test_another_output_is_no_wonder_where_the_request_or_chance_makes_it(
    open_stage: StageOpener, change: Change, asked: dict[str, Any], told: str
) -> None:
    replies = iter([script_of((2, 3), num_draft=3), *[script_of((2, 9), num_draft=3)] * 12])

    class Changing(ScriptedPair):
        def stream(self, request: Any) -> Any:
            self.scripts = [next(replies)]
            return super().stream(request)

    microscope = Microscope(open_stage(lambda: Changing([script_of()])))
    assert told in trial(microscope, change, **asked)["microscope-tried"]


def test_a_trial_that_fails_says_why(open_stage: StageOpener) -> None:
    broken = [script_of()[0], GenerationFailed("Out of memory: take a shorter prompt.")]
    microscope = Microscope(open_stage(lambda: ScriptedPair([broken])))
    assert "Out of memory" in trial(microscope, Change("block_size", 3))["microscope-tried"]
    gone = trial(microscope, Change("block_size", 3), pair="nobody")["microscope-tried"]
    assert "nobody" in gone


def test_a_trial_that_is_stopped_compares_nothing(open_stage: StageOpener) -> None:
    pair = PacedPair([script_of((2, 3), (4, 5), num_draft=3)])
    microscope = Microscope(open_stage(lambda: pair))
    _, opened = microscope.open(microscope.add(losing_steps()))
    finding = replace(opened.finding(0), change=Change("block_size", 3))
    opened = replace(opened, diagnosis=replace(opened.diagnosis, findings=(finding,)))
    updates = play(microscope.blocks, "on_try", 0, visitor(), opened)
    assert "run-status" in texts(next(updates))["microscope-tried"]
    microscope.call("on_stop", visitor())
    pair.gate.set()
    assert "Stopped before both runs had ended" in last(updates)["microscope-tried"]


def test_nothing_is_tried_where_no_run_is_open(microscope: Microscope) -> None:
    assert last(play(microscope.blocks, "on_try", 0, visitor(), None))["microscope-tried"] == ""
    assert microscope.workspace.store.list_runs() == []


def test_a_visitor_of_a_public_page_sees_and_tries_only_what_is_theirs(
    open_stage: StageOpener,
) -> None:
    workspace = open_stage(one_reply)
    workspace.settings = replace(workspace.settings, public=PublicLimits())
    microscope = Microscope(workspace)
    theirs = microscope.add(losing_steps(), owner="somebody else")
    assert "no longer in the log" in microscope.open(theirs)[0]["microscope-summary"]
    shown = texts(microscope.call("on_show", None, None, visitor()))
    assert "No run is recorded yet" in shown["microscope-summary"]
    loaded = workspace.loaded("scripted")
    page = find_handler(microscope.blocks, "MicroscopeTab.on_stop").__self__.page  # type: ignore[attr-defined]
    list(workspace.run(loaded, ask(), source="chat", owner=page.owner(visitor())))
    shown = texts(microscope.call("on_show", None, None, visitor()))
    assert [value for _, value in shown["microscope-run"].choices] == [theirs + 1]
    _, opened = microscope.open(theirs + 1)
    finding = replace(opened.diagnosis.findings[0], change=Change("dtype", "float16"))
    opened = replace(opened, diagnosis=replace(opened.diagnosis, findings=(finding,)))
    assert last(play(microscope.blocks, "on_try", 0, visitor(), opened))["microscope-tried"] == ""
