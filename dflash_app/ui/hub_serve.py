"""The hub's panel for serving engines: plans of the chosen pair, and a server of this machine."""

from typing import Any

import gradio as gr

from dflash_app.serving.gpus import GPUS
from dflash_app.serving.plan import ENGINES, TITLES
from dflash_app.serving.planner import LAST_PORT
from dflash_app.serving.process import LocalServer
from dflash_app.serving.render import FORMS
from dflash_app.ui.hub_serve_local import build_local, connect_local
from dflash_app.ui.hub_serve_plan import USUAL_GPU, Serving
from dflash_app.ui.hub_serve_text import texts
from dflash_app.ui.hub_view import QUIET, HubView


def build_serving(view: HubView) -> Any:
    """Build the panel and let it answer.

    Args:
        view: the tab's.

    Returns:
        Its event that adds a pair; None on a public page, which has no such panel.
    """
    if view.page.public:
        return None
    with gr.Accordion(texts.label("title"), open=False, elem_id="hub-serve") as section:
        gr.HTML(f"<p>{texts.label('intro')}</p>", elem_id="serve-intro")
        wish, form = _build_wish()
        command = gr.Code(
            interactive=False, lines=4, wrap_lines=True, buttons=["copy"], visible=False,
            label=texts.label("command"), show_line_numbers=False, elem_id="serve-command",
        )  # fmt: skip
        told = gr.HTML(elem_id="serve-told")
        local = build_local()
    server = LocalServer(view.page.workspace.settings.home / "serving")
    serving = Serving(view, section, wish, form, command, told, local.notice, server)
    inputs = [view.chosen, form, *wish]
    shown: dict[str, Any] = {"inputs": inputs, "outputs": [command, told], **QUIET}
    wishes = [box.input for box in (form, *wish)]
    gr.on(
        [section.expand, view.chosen.change, *wishes],
        serving.on_wish,
        trigger_mode="always_last",
        **shown,
    )
    local.ask.click(serving.on_ask, view.chosen, local.notice, **QUIET).then(
        serving.on_wish, **shown
    )
    return connect_local(local, serving)


def _build_wish() -> tuple[list[Any], gr.Radio]:
    """What can be asked for, and the form apart, which no server needs."""
    box: dict[str, Any] = {"min_width": 130, "interactive": True}
    engines = [(TITLES[engine], engine) for engine in ENGINES]
    kinds = [(texts.label("gpu_usual"), USUAL_GPU), *((name, name) for name in GPUS)]
    forms = [(texts.label(f"form_{form}"), form) for form in FORMS]
    with gr.Row(elem_id="serve-wish"):
        engine = gr.Radio(
            engines, value=ENGINES[0], label=texts.label("engine"), elem_id="serve-engine", **box
        )
        gpu = gr.Dropdown(
            kinds, value=USUAL_GPU, label=texts.label("gpu"), elem_id="serve-gpu", **box
        )
        count: dict[str, Any] = {"value": 1, "precision": 0, "minimum": 1, "step": 1, **box}
        gpus = gr.Number(label=texts.label("gpus"), elem_id="serve-gpus", **count)
        nodes = gr.Number(label=texts.label("nodes"), elem_id="serve-nodes", **count)
        form = gr.Radio(
            forms, value=FORMS[0], label=texts.label("form"), elem_id="serve-form", scale=2, **box
        )
        port = gr.Number(
            0, label=texts.label("port"), precision=0, minimum=0, maximum=LAST_PORT, step=1,
            elem_id="serve-port", **box,
        )  # fmt: skip
    twin = gr.Checkbox(False, label=texts.label("twin"), elem_id="serve-twin")
    return [engine, gpu, gpus, nodes, port, twin], form
