"""The Hub tab: every pair, whether it fits, its download, and what is on disk."""

from typing import Any

import gradio as gr

from dflash_app.ui.hub_actions import build_actions, connect_actions
from dflash_app.ui.hub_advice import build_advice, connect_advice
from dflash_app.ui.hub_care import build_care, connect_care
from dflash_app.ui.hub_fit import Fits
from dflash_app.ui.hub_jobs import IDLE_TICK_S
from dflash_app.ui.hub_serve import build_serving
from dflash_app.ui.hub_table import ALL, CHOOSE_JS, FITS, ORDERS, STATUSES, STAY_JS
from dflash_app.ui.hub_texts import texts
from dflash_app.ui.hub_view import QUIET, HubView
from dflash_app.ui.shell import Page

_COME_JS = "() => { document.querySelector('#tab-hub-button').click(); }"


def build(page: Page) -> None:
    """Build the tab."""
    with gr.Row(elem_id="hub-filters"):
        wish = _build_filters()
    notice = gr.HTML(elem_id="hub-notice")
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            table = gr.HTML(elem_id="hub-list", js_on_load=CHOOSE_JS + STAY_JS)
        with gr.Column(scale=3, min_width=320, elem_classes="side-panel", elem_id="hub-side"):
            detail = gr.HTML(elem_id="hub-detail")
            with gr.Row(elem_id="hub-choice"):
                box: dict[str, Any] = {"interactive": True, "min_width": 150}
                target = gr.Dropdown([], label=texts.label("target"), elem_id="hub-target", **box)
                drafter = gr.Dropdown(
                    [], label=texts.label("drafter"), elem_id="hub-drafter", **box
                )
            jobs = gr.HTML(elem_id="hub-jobs")
            actions = build_actions()
            fit = gr.HTML(elem_id="hub-fit")
    view = HubView(
        page, Fits(page.workspace), wish, table, gr.State(None), gr.State(None),
        gr.Timer(IDLE_TICK_S, active=False), target, drafter, detail, jobs, fit, notice,
    )  # fmt: skip
    advising = build_advice(view)
    added = build_serving(view)
    care = build_care(page)
    _connect(
        view,
        chooses=[table.select, connect_advice(advising)],
        changes=connect_actions(actions, view),
        reloads=[event for event in (connect_care(care), added) if event],
        questions=actions.asking,
    )


def _build_filters() -> list[Any]:
    """The filters, in the order of `Wish`."""
    every = (texts.label("all"), ALL)

    def choices(key: str, offered: list[Any], elem_id: str | None = None) -> gr.Dropdown:
        return gr.Dropdown(
            offered, value=offered[0][1], label=texts.label(key), interactive=True, min_width=130,
            scale=1, elem_id=elem_id or f"hub-{key}",
        )  # fmt: skip

    return [
        gr.Textbox(
            label=texts.label("search"), placeholder=texts.label("search_hint"), max_lines=1,
            min_width=170, scale=2, elem_id="hub-text",
        ),
        choices("family", [every]),
        choices("status", [every, *((texts.label(_status(each)), each) for each in STATUSES)]),
        choices("fit", [(texts.label(key), value) for key, value in FITS], "hub-fits"),
        choices("order", [(texts.label(f"order_{order}"), order) for order in ORDERS]),
    ]  # fmt: skip


def _status(status: str) -> str:
    return f"status_{status.replace(' ', '_')}"


def _connect(
    view: HubView,
    *,
    chooses: list[Any],
    changes: list[Any],
    reloads: list[Any],
    questions: list[Any],
) -> None:
    """Draw at once what needs no waiting; then work out fits, then ask the hub, and draw again."""
    bar, chosen = view.page.bar, [view.chosen, *view.wish]
    told = {"inputs": chosen, "outputs": [view.table, view.fit], **QUIET}
    everything = [*chosen, *bar.inputs]

    def then_ask(event: Any) -> None:
        event.then(view.on_ask, view.chosen, None, **QUIET).then(view.on_told, **told)

    def then_look(event: Any) -> None:
        then_ask(event.then(view.on_look, None, None, **QUIET).then(view.on_told, **told))

    family = view.wish[1]
    then_look(view.page.tab.select(view.on_show, everything, [*view.shown, family], **QUIET))
    for event in reloads:
        then_look(event.then(view.on_show, everything, [*view.shown, family], **QUIET))
    clear = {"fn": lambda: ["", None, None], "outputs": questions, **QUIET}
    followed = [bar.pair.change, bar.drafter.change]
    targets, drafters = [view.chosen, view.target], [view.chosen, view.drafter]
    for event in (
        gr.on(chooses, view.on_row, view.wish, view.shown, **QUIET),
        view.target.input(view.on_target, [*targets, *view.wish], view.shown, **QUIET),
        view.drafter.input(view.on_drafter, [*drafters, *view.wish], view.shown, **QUIET),
        gr.on(followed, view.on_follow, everything, view.shown, **QUIET),
    ):
        then_ask(event.then(**clear))
    for event in changes:
        then_look(event)
    asked = bar.facts.select(view.on_follow, everything, view.shown, **QUIET)
    asked.then(None, js=_COME_JS, **QUIET)
    then_ask(asked.then(**clear))
    gr.on(
        [view.wish[0].change, *(box.input for box in view.wish[1:])],
        lambda *values: view.draw_table(values[0], values[1:]),
        chosen, view.table, trigger_mode="always_last", **QUIET,
    )  # fmt: skip
    view.timer.tick(view.on_tick, [view.chosen, view.seen, *view.wish], view.shown, **QUIET)
