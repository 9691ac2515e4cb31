"""The Compare tab: a race of two lanes, live, with the speedup and the verdict at the end."""

import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, cast

import gradio as gr

from dflash_app.engine.protocol import LoadedPair
from dflash_app.errors import DFlashAppError, PairNotReady, StoreError
from dflash_app.events import DecodeEvent
from dflash_app.race import Verdict, verdict, warm_up
from dflash_app.request import GenerationRequest, Message
from dflash_app.ui.choice import Choice
from dflash_app.ui.components import render_notice, render_parts, render_status, run_status
from dflash_app.ui.flow import Update, connect_flow
from dflash_app.ui.live import LiveRun
from dflash_app.ui.run_view import RunView
from dflash_app.ui.sampling import SamplingControls, as_mode, build_request, build_sampling
from dflash_app.ui.shell import Page

from .render import render_lane, render_outcome

PLACE = "compare"
DEFAULT_PROMPT = "How many positive whole-number divisors does 196 have?"
WARM_UP_TOKENS = 8
"""Of each lane: few, because Stop waits for them."""

AR, DFLASH = 0, 1

LaneEvent = tuple[int, DecodeEvent]


class Warmth:
    """Whether the pair in memory has decoded in both modes: only then do the lanes start alike."""

    def __init__(self) -> None:
        self._warm: Callable[[], LoadedPair | None] = lambda: None

    def warm(self, loaded: LoadedPair, requests: Sequence[GenerationRequest]) -> None:
        """Warm the pair up, once after each loading; it is not kept in memory for this."""
        if self._warm() is not loaded:
            warm_up(loaded, requests, max_tokens=WARM_UP_TOKENS)
            self._warm = weakref.ref(loaded)


@dataclass(frozen=True, slots=True)
class CompareTab:
    """The tab's widgets and the page they are on."""

    page: Page
    prompt: gr.Textbox
    notice: gr.HTML
    outcome: gr.HTML
    panel: gr.HTML
    sampling: SamplingControls
    warmth: Warmth

    @property
    def outputs(self) -> list[Any]:
        return [self.notice, self.outcome, self.panel]

    def on_stop(self, request: gr.Request) -> None:
        """Cancel both lanes within one step; the race's own updates say so."""
        self.page.stop(request, PLACE)

    def on_race(self, prompt: str, gradio_request: gr.Request, *values: Any) -> Iterator[Update]:
        """Run a race and show it ten times a second."""
        num_bar = len(self.page.bar.inputs)
        try:
            choice = _with_drafter(self.page, self.page.read(values[:num_bar]))
            turns = [Message("user", prompt or "")]
            request = build_request(values[num_bar:], turns, "dflash", choice.block_size)
            self.page.check_ready(choice)
        except DFlashAppError as error:
            yield {self.notice: render_notice(str(error), "error")}
            return
        view = RaceView()
        run = self.page.start(
            gradio_request,
            PLACE,
            lambda: _decode(self.page, self.warmth, choice, request, view),
        )
        begun = render_status(run_status("loading", None), busy=True)
        yield {self.notice: "", self.outcome: "", self.panel: _render_race(view, begun)}
        for items in run.looks():
            for lane, event in items:
                view.lanes[lane].add([event])
            if run.phase != "ended":
                yield {self.panel: _render_race(view, _say_status(run, view))}
        yield _ending(self, run, view)


@dataclass(slots=True)
class RaceView:
    """A race as it grows; the verdict is asked for in the reader's thread, at the end."""

    lanes: tuple[RunView, RunView] = field(default_factory=lambda: (RunView(), RunView()))
    verdict: Verdict | None = None


def build(page: Page) -> None:
    """Build the tab."""
    with gr.Row():
        prompt = gr.Textbox(
            DEFAULT_PROMPT, label="Prompt for both lanes", lines=1, max_lines=8, scale=8,
            min_width=220, elem_id="race-prompt",
        )  # fmt: skip
        with gr.Column(scale=1, min_width=110, elem_classes="slim"):
            start = gr.Button(
                "Race", variant="primary", elem_id="race-start", elem_classes="while-idle"
            )
            stop = gr.Button("Stop", variant="stop", elem_id="race-stop", elem_classes="while-busy")
    notice = gr.HTML(elem_id="race-notice")
    outcome = gr.HTML(elem_id="race-outcome")
    panel = gr.HTML(_render_race(RaceView()), elem_id="race-panel")
    with gr.Accordion("Sampling and limits of both lanes", open=False, elem_id="race-settings"):
        sampling = build_sampling("race")
    tab = CompareTab(page, prompt, notice, outcome, panel, sampling, Warmth())
    connect_flow(
        [start.click, prompt.submit],
        tab.on_race,
        gr.State(None),
        inputs=[prompt, *page.bar.inputs, *sampling.inputs],
        outputs=tab.outputs,
        live=[panel],
    )
    stop.click(tab.on_stop, queue=False, show_progress="hidden", api_visibility="private")


def _with_drafter(page: Page, choice: Choice) -> Choice:
    """A race needs the drafter, whatever the drafter box says."""
    if choice.mode == "dflash":
        return choice
    if page.workspace.registry.get(choice.pair).drafter is None:
        raise PairNotReady(f"{choice.pair} has no drafter to race: choose another pair.")
    return replace(choice, mode="dflash")


def _decode(
    page: Page, warmth: Warmth, choice: Choice, request: GenerationRequest, view: RaceView
) -> Iterator[LaneEvent]:
    """Load what was chosen and race, in the reader's thread."""
    loaded = page.load(choice)
    for lane in view.lanes:
        lane.know(loaded, request)
    requests = [as_mode(request, "ar"), request]
    warmth.warm(loaded, requests)
    return _judged(page.workspace.race(loaded, requests), loaded, request, view)


def _judged(
    events: Iterator[LaneEvent], loaded: LoadedPair, request: GenerationRequest, view: RaceView
) -> Iterator[LaneEvent]:
    """Pass the race on, then compare what came."""
    seen = (RunView(), RunView())
    problem: StoreError | None = None
    try:
        with closing(cast("Generator[LaneEvent]", events)):
            for lane, event in events:
                seen[lane].add([event])
                yield lane, event
    except StoreError as error:  # comes after the last event: the race itself is whole
        problem = error
    view.verdict = verdict(loaded, request, seen[AR].token_ids, seen[DFLASH].token_ids)
    if problem is not None:
        raise problem


def _render_race(view: RaceView, status: str = "") -> str:
    lanes = "".join(
        render_lane(name, lane.metrics(), lane.text)
        for name, lane in zip(("ar", "dflash"), view.lanes, strict=True)
    )
    return render_parts(
        {
            "race-status": status or render_status(""),
            "race-lanes": lanes,
            "race-notes": view.lanes[DFLASH].render_notes(),
            "race-strip": view.lanes[DFLASH].render_strip(),
        }
    )


def _say_status(run: LiveRun[LaneEvent], view: RaceView) -> str:
    text = run_status(run.phase, None, stopped=run.stopped and view.verdict is None)
    if run.phase == "running" and not run.stopped:
        text = "Racing: the lane that is behind computes next."
    if view.verdict is not None:
        text += view.lanes[DFLASH].circumstances()
    return render_status(text, busy=run.phase != "ended")


def _ending(tab: CompareTab, run: LiveRun[LaneEvent], view: RaceView) -> Update:
    update: Update = {tab.panel: _render_race(view, _say_status(run, view))}
    if run.error is not None:
        update[tab.notice] = render_notice(str(run.error), "error")
    elif run.broken:
        update[tab.notice] = render_notice("The race broke off; the terminal shows why.", "error")
    else:
        update[tab.notice] = render_notice(view.lanes[DFLASH].hints())
    if view.verdict is not None:
        metrics = [lane.metrics() for lane in view.lanes]
        update[tab.outcome] = render_outcome(metrics[AR], metrics[DFLASH], view.verdict)
    return update
