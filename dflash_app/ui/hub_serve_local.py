"""A server of this machine in the serving panel: start, log, stop, and its pair."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.registry.custom import new_pair, read_server
from dflash_app.registry.pair import Pair
from dflash_app.serving.plan import TITLES, ServePlan
from dflash_app.serving.process import Standing
from dflash_app.ui.components import render_notice
from dflash_app.ui.hub_chosen import Chosen
from dflash_app.ui.hub_serve_plan import Serving
from dflash_app.ui.hub_serve_text import render_standing, texts
from dflash_app.ui.hub_view import QUIET, Update
from dflash_app.ui.model_bar import refresh_model_bar

TICK_S = 1.0
_RUNNING = ("starting", "ready")


@dataclass(frozen=True, slots=True)
class Local:
    """The widgets.

    Attributes:
        ask: for the sizes that the hub tells; it stands beside the others.
        notice: what a button did, or why not.
        shown: the server and its log.
        seen: its state when the buttons were drawn.
    """

    ask: gr.Button
    start: gr.Button
    stop: gr.Button
    add: gr.Button
    notice: gr.HTML
    shown: gr.HTML
    seen: gr.State
    timer: gr.Timer

    @property
    def following(self) -> list[Any]:
        """What changes with the server."""
        return [self.start, self.stop, self.add, self.shown, self.seen, self.timer]


@dataclass(slots=True)
class LocalActing:
    """What the buttons do.

    Attributes:
        stopped: the plan whose server somebody stopped: its end is no fault.
    """

    local: Local
    serving: Serving
    stopped: ServePlan | None = None

    def on_start(self, chosen: Chosen | None, *wish: Any) -> Update:
        """Start the server that the widgets plan; the browser sends no word of its command."""
        try:
            self.serving.server.start(self.serving.plan(chosen, wish))
        except DFlashAppError as error:
            return {self.local.notice: render_notice(str(error), "error"), **self.draw()}
        return {self.local.notice: "", **self.draw()}

    def on_stop(self) -> Update:
        """Stop the server, whoever started it."""
        try:
            self.serving.check_local()
        except DFlashAppError as error:
            return {self.local.notice: render_notice(str(error), "error")}
        self.stopped = self.serving.server.standing().plan
        self.serving.server.stop()
        return {self.local.notice: "", **self.draw()}

    def on_add(self, *bar_values: Any) -> Update:
        """Know the running server as a pair of the user's own."""
        page = self.serving.view.page
        try:
            self.serving.check_local()
            standing = self.serving.server.standing()
            if standing.plan is None:
                return {self.local.notice: gr.skip()}
            pair = self._pair_of(standing.plan)
            page.workspace.add_pair(pair)
        except DFlashAppError as error:
            return {self.local.notice: render_notice(str(error), "error")}
        said = render_notice(texts.say("added", name=pair.name), "success")
        return {
            self.local.notice: said,
            **refresh_model_bar(page.bar, page.workspace, bar_values),
        }

    def on_tick(self, seen: str | None) -> Update:
        """Show the log; the buttons only where the server's state is another one."""
        standing = self.serving.server.standing()
        if standing.state == seen:
            return {self.local.shown: self._render(standing)}
        return self.draw(standing)

    def draw(self, standing: Standing | None = None) -> Update:
        """Everything that follows the server."""
        standing = standing or self.serving.server.standing()
        runs = standing.state in _RUNNING
        local = self.local
        return {
            local.start: gr.Button(visible=not runs),
            local.stop: gr.Button(visible=runs),
            local.add: gr.Button(visible=standing.state == "ready"),
            local.shown: self._render(standing),
            local.seen: standing.state,
            local.timer: gr.Timer(TICK_S, active=runs),
        }

    def _render(self, standing: Standing) -> str:
        return render_standing(standing, stopped=standing.plan is self.stopped)

    def _pair_of(self, plan: ServePlan) -> Pair:
        """A row for the running server; plain decoding has no drafter."""
        source = self.serving.view.page.workspace.registry.get(plan.pair)
        ref = read_server(plan.base_url, plan.model_name)
        suffix = plan.engine if plan.drafting else f"{plan.engine}-ar"
        return new_pair(
            f"{source.name[: 63 - len(suffix)]}-{suffix}",
            ref,
            ref if plan.drafting else None,
            title=texts.say("pair_title", title=source.title, engine=TITLES[plan.engine]),
            family=source.family,
            block_size=source.block_size if plan.drafting else None,
        )


def build_local() -> Local:
    """Build the buttons and the log."""
    small: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 150}
    with gr.Row(elem_id="serve-acts"):
        start = gr.Button(texts.label("start"), variant="primary", elem_id="serve-start", **small)
        stop = gr.Button(
            texts.label("stop"), variant="stop", visible=False, elem_id="serve-stop", **small
        )
        add = gr.Button(texts.label("add"), visible=False, elem_id="serve-add", **small)
        ask = gr.Button(texts.label("ask"), elem_id="serve-ask", **small)
    notice = gr.HTML(elem_id="serve-notice")
    shown = gr.HTML(elem_id="serve-local")
    return Local(
        ask, start, stop, add, notice, shown, gr.State(None), gr.Timer(TICK_S, active=False)
    )


def connect_local(local: Local, serving: Serving) -> Any:
    """Let them answer; returns the event that adds a pair."""
    acting = LocalActing(local, serving)
    following = [local.notice, *local.following]
    wish = [serving.view.chosen, *serving.wish]
    local.start.click(acting.on_start, wish, following, **QUIET)
    local.stop.click(acting.on_stop, None, following, **QUIET)
    serving.section.expand(acting.draw, None, local.following, **QUIET)
    local.timer.tick(acting.on_tick, local.seen, local.following, **QUIET)
    bar = serving.view.page.bar
    return local.add.click(
        acting.on_add, bar.inputs, [local.notice, bar.pair, *bar.follows_pair], **QUIET
    )
