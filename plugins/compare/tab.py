"""The Compare tab: a race of two or three lanes, live, with speedups and verdicts at the end."""

import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, cast

import gradio as gr

from dflash_app.engine.protocol import LoadedPair, on_server
from dflash_app.errors import DFlashAppError, StoreError
from dflash_app.events import DecodeEvent
from dflash_app.race import LaneSpec, RaceLane, warm_up
from dflash_app.request import Message
from dflash_app.session import new_group_id
from dflash_app.spaces.public import check_limits
from dflash_app.ui.components import render_notice, render_parts, render_status, run_status
from dflash_app.ui.flow import Update, connect_flow
from dflash_app.ui.format import escape_html
from dflash_app.ui.live import LiveRun
from dflash_app.ui.presets import connect_presets
from dflash_app.ui.run_view import RunView
from dflash_app.ui.sampling import (
    SamplingControls,
    build_request,
    build_sampling,
    connect_heading,
)
from dflash_app.ui.shell import Page
from dflash_app.ui.strip import render_empty_strip
from dflash_app.verdict import say_precision

from .earlier import with_log
from .lanes import LaneEditor, build_lanes, default_specs, read_lanes
from .outcome import RaceOutcome, judge
from .render import lane_details, lane_names, render_command, render_lanes, render_outcome
from .share import Share, build_share, connect_share
from .words import texts

PLACE = "compare"
DEFAULT_PROMPT = "How many positive whole-number divisors does 196 have?"
WARM_UP_TOKENS = 8
"""Of each lane: few, because Stop waits for them."""

LaneEvent = tuple[int, DecodeEvent]


class Warmth:
    """What has decoded since it was loaded: only then do the lanes start alike."""

    def __init__(self) -> None:
        self._warm: list[tuple[Callable[[], LoadedPair | None], tuple[object, ...]]] = []

    def warm(self, lanes: Sequence[RaceLane]) -> None:
        """Warm all lanes up where one has not run like this yet; no pair is kept in memory."""
        self._warm = [each for each in self._warm if each[0]() is not None]
        if all(self._is_warm(lane) for lane in lanes):
            return
        warm_up(lanes, max_tokens=WARM_UP_TOKENS)
        self._warm += [(weakref.ref(lane.loaded), _shape(lane)) for lane in lanes]

    def _is_warm(self, lane: RaceLane) -> bool:
        return any(ref() is lane.loaded and shape == _shape(lane) for ref, shape in self._warm)


def _shape(lane: RaceLane) -> tuple[object, ...]:
    return lane.request.mode, lane.request.block_size


@dataclass(slots=True)
class RaceView:
    """A race as it grows.

    Attributes:
        specs: of the lanes.
        lanes: what came of each so far.
        precisions: what each computes in, known once its pair is loaded.
        in_turn: a lane is on a server, so not all of them run at once.
        outcome: found in the reader's thread, at the end.
    """

    specs: Sequence[LaneSpec]
    lanes: list[RunView] = field(init=False)
    precisions: tuple[str, ...] = ()
    in_turn: bool = False
    outcome: RaceOutcome | None = None

    def __post_init__(self) -> None:
        drafting = [spec.request.mode == "dflash" for spec in self.specs]
        shown = drafting.index(True) if any(drafting) else 0
        self.lanes = [RunView(colour=index == shown) for index in range(len(self.specs))]

    def know(self, lanes: Sequence[RaceLane]) -> None:
        """Take what is known once the pairs are loaded."""
        self.precisions = tuple(say_precision(lane.loaded) for lane in lanes)
        self.in_turn = any(on_server(lane.loaded) for lane in lanes)
        for lane, shown in zip(lanes, self.lanes, strict=True):
            shown.know(lane.loaded, lane.request)

    def hints(self) -> str:
        """What to tell beside the figures, each sentence once."""
        return " ".join(dict.fromkeys(filter(None, (lane.hints() for lane in self.lanes))))

    def circumstances(self) -> str:
        """Where the lanes ran and with which drafts, each sentence once."""
        drafting = [lane for lane in self.lanes if lane.policy is not None]
        places = {lane.where for lane in drafting}
        told = [*drafting, *(lane for lane in self.lanes if lane.where not in places)]
        return "".join(dict.fromkeys(said for lane in told for said in lane.sentences()))

    def render(self, status: str = "") -> str:
        """The panel: what changes while the race goes on."""
        return render_parts(
            {
                "race-status": status or render_status(""),
                "race-lanes": render_lanes(
                    self.specs,
                    lane_details(self.specs, self.precisions),
                    [lane.metrics() for lane in self.lanes],
                    [lane.text for lane in self.lanes],
                    waiting=self._waiting(),
                    run_ids=[lane.run_id for lane in self.outcome.lanes] if self.outcome else (),
                ),
                "race-notes": self._render_notes(),
                "race-strip": self._render_strip(),
            }
        )

    def _waiting(self) -> list[bool]:
        """Which lanes begin when another has ended."""
        begun = [bool(lane.events) for lane in self.lanes]
        return [self.in_turn and any(begun) and not each for each in begun]

    def _render_strip(self) -> str:
        """The fate of one lane's tokens."""
        shown = next(lane for lane in self.lanes if lane.strip is not None)
        if not shown.events:
            return render_empty_strip(texts.say("strip_empty"))
        return shown.render_strip()

    def _render_notes(self) -> str:
        """What the engine told of each lane, under its name where several were told something."""
        notes = [lane.render_notes() for lane in self.lanes]
        if sum(map(bool, notes)) < 2:
            return "".join(notes)
        named = lane_names(self.specs, self.precisions)
        names = (f"<b>{escape_html(name)}</b>" for name in named)
        return "".join(name + note for name, note in zip(names, notes, strict=True) if note)


@dataclass(frozen=True, slots=True)
class CompareTab:
    """The tab's widgets and the page they are on."""

    page: Page
    prompt: gr.Textbox
    notice: gr.HTML
    outcome: gr.HTML
    panel: gr.HTML
    sampling: SamplingControls
    editor: LaneEditor
    share: Share
    warmth: Warmth

    @property
    def inputs(self) -> list[Any]:
        return [self.prompt, *self.page.bar.inputs, *self.sampling.inputs, *self.editor.inputs]

    @property
    def outputs(self) -> list[Any]:
        return [self.notice, self.outcome, self.panel, self.share.last, self.share.command]

    def on_stop(self, request: gr.Request) -> None:
        """Cancel all lanes within one step; the race's own updates say so."""
        self.page.stop(request, PLACE)

    def on_race(self, prompt: str, gradio_request: gr.Request, *values: Any) -> Iterator[Update]:
        """Run a race and show it ten times a second."""
        num_bar, num_sampling = len(self.page.bar.inputs), len(self.sampling)
        bar, values = values[:num_bar], values[num_bar:]
        try:
            request = build_request(
                values[:num_sampling], [Message("user", prompt or "")], "dflash", None
            )
            specs, backend = read_lanes(self.page, bar, values[num_sampling:], request)
        except DFlashAppError as error:
            yield {self.notice: render_notice(self.page.told(error), "error")}
            return
        view, owner = RaceView(specs), self.page.owner(gradio_request)
        run = self.page.start(gradio_request, PLACE, lambda: _decode(self, view, backend, owner))
        begun = render_status(run_status("loading", None), busy=True)
        empty = dict.fromkeys([self.notice, self.outcome, self.share.command], "")
        yield {**empty, self.share.last: None, self.panel: view.render(begun)}
        for items in run.looks():
            for lane, event in items:
                view.lanes[lane].add([event])
            if run.phase != "ended":
                yield {self.panel: view.render(_say_status(run, view))}
        yield _ending(self, run, view)


def build(page: Page) -> None:
    """Build the tab."""
    with gr.Row():
        prompt = gr.Textbox(
            DEFAULT_PROMPT, label=texts.label("prompt"), lines=1, max_lines=8, scale=8,
            min_width=220, elem_id="race-prompt",
        )  # fmt: skip
        with gr.Column(scale=1, min_width=110, elem_classes="slim"):
            start = gr.Button(
                texts.label("race"), variant="primary", elem_id="race-start",
                elem_classes="while-idle",
            )  # fmt: skip
            stop = gr.Button(
                texts.label("stop"), variant="stop", elem_id="race-stop", elem_classes="while-busy"
            )
    editor = build_lanes(page)
    notice = gr.HTML(elem_id="race-notice")
    outcome = gr.HTML(elem_id="race-outcome")
    share = build_share()
    panel = gr.HTML(RaceView(default_specs()).render(), elem_id="race-panel")
    with gr.Accordion(texts.label("settings"), open=False, elem_id="race-settings") as fold:
        sampling = build_sampling("race")
    connect_presets(sampling, page)
    connect_heading(sampling, fold, lambda: texts.say("settings"))
    tab = CompareTab(page, prompt, notice, outcome, panel, sampling, editor, share, Warmth())
    connect_flow(
        [start.click, prompt.submit],
        tab.on_race,
        gr.State(None),
        inputs=tab.inputs,
        outputs=tab.outputs,
        live=[panel],
    )
    connect_share(share)
    stop.click(tab.on_stop, queue=False, show_progress="hidden", api_visibility="private")


def _decode(
    tab: CompareTab, view: RaceView, backend: str | None, owner: str | None
) -> Iterator[LaneEvent]:
    """Load what the lanes need, race, compare what came, in the reader's thread."""
    workspace, group_id = tab.page.workspace, new_group_id()
    seen = [RunView(colour=False) for _ in view.specs]
    problem: StoreError | None = None
    with workspace.lanes(view.specs, backend) as lanes:
        view.know(lanes)
        check_limits([lane.request for lane in lanes], workspace.settings.public)
        tab.warmth.warm(lanes)
        events = workspace.race_lanes(lanes, group_id=group_id, owner=owner)
        try:
            with closing(cast("Generator[LaneEvent]", events)):
                for index, event in events:
                    seen[index].add([event])
                    yield index, event
        except StoreError as error:  # comes after the last event: the race itself is whole
            problem = error
        judged = judge(lanes, view.specs, seen, workspace.registry, backend)
        view.outcome = with_log(judged, workspace.store, group_id, owner)
    if problem is not None:
        raise problem


def _say_status(run: LiveRun[LaneEvent], view: RaceView) -> str:
    failed = run.phase == "ended" and (run.error is not None or run.broken)
    stopped = run.stopped and view.outcome is None and not failed  # every ended run is "stopped"
    text = run_status(
        run.phase, None, stopped=stopped, num_before=run.num_before, loading_s=run.loading_s
    )
    if run.phase == "running" and not run.stopped:
        done = all(lane.finished is not None for lane in view.lanes)
        racing = "racing_in_turn" if view.in_turn else "racing"
        text = texts.say("judging" if done else racing)
    if run.phase == "ended" and view.outcome is not None:
        text += view.circumstances()
    return render_status(text, busy=run.phase != "ended")


def _ending(tab: CompareTab, run: LiveRun[LaneEvent], view: RaceView) -> Update:
    update: Update = {tab.panel: view.render(_say_status(run, view))}
    if run.error is not None:
        update[tab.notice] = render_notice(str(run.error), "error")
    elif run.broken:
        update[tab.notice] = render_notice(texts.say("broken"), "error")
    else:
        update[tab.notice] = render_notice(view.hints())
    if view.outcome is not None:
        update[tab.outcome] = render_outcome(view.outcome)
        update[tab.share.last] = view.outcome
        update[tab.share.command] = render_command(view.outcome.command(with_prompt=True))
    return update
