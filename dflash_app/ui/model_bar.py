"""The row of dropdowns that every tab shares: pair, drafter, block, backend, precision, device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.hub.choices import find_target, keys_of
from dflash_app.registry.pair import Pair
from dflash_app.request import MAX_BLOCK_SIZE
from dflash_app.ui.backend_choices import (
    backend_choices,
    device_choices,
    precision_choices,
    texts,
)
from dflash_app.ui.choice import AUTO, NO_DRAFTER
from dflash_app.ui.pair_facts import OPEN_HUB_JS, find_pair, render_pair, say_status
from dflash_app.workspace import Workspace

BLOCK_SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
EXPERIMENTAL_BLOCK_SIZES = (24, 32, 48, MAX_BLOCK_SIZE)
"""Offered above the one that a drafter was trained for, and labelled as what they are."""

_FOLD_JS = """() => {
    const button = document.querySelector('#bar-more');
    const unfolded = document.querySelector('.model-bar').classList.toggle('unfolded');
    button.setAttribute('aria-expanded', unfolded);
}"""
"""On a phone style.css shows the less usual boxes of the bar only where it is unfolded."""

BAR_EVENT: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_id": "model-bar",
}
"""Of the events of the bar. They share a queue, for Gradio empties several in random order: what
was offered for the pair before might come last."""

FOLLOWING: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "trigger_mode": "multiple",
}
"""Of what listens to a change of the bar beside others. Gradio 6.31 ends the wait of an event that
is "always_last", as changes are by default, by firing all that listen to the same change: two of
them would fire each other without end."""


@dataclass(frozen=True, slots=True)
class ModelBar:
    """The widgets; `inputs` is the order in which `read_choice` takes their values."""

    pair: gr.Dropdown
    drafter: gr.Dropdown
    block_size: gr.Dropdown
    precision: gr.Dropdown
    device: gr.Dropdown
    backend: gr.Dropdown
    facts: gr.HTML

    @property
    def inputs(self) -> list[gr.Dropdown]:
        chosen = [self.pair, self.drafter, self.block_size]
        return [*chosen, self.precision, self.device, self.backend]

    @property
    def follows_pair(self) -> list[gr.Component]:
        """What `offer_pair` gives values to, in its order."""
        return [
            self.drafter,
            self.block_size,
            self.backend,
            self.precision,
            self.device,
            self.facts,
        ]


def build_model_bar(workspace: Workspace) -> ModelBar:
    """Make the row; it starts with the first pair that is ready."""
    first = first_ready(workspace) or next((pair.name for pair in workspace.pairs()), None)
    backends = backend_choices(workspace, first)
    backend_name = backends[0][1]
    devices = device_choices(backend_name)
    with gr.Row(elem_classes="model-bar"):
        pair = gr.Dropdown(
            pair_choices(workspace), value=first, label=texts.label("pair"), scale=4, min_width=220,
            elem_id="pair", interactive=True,
        )  # fmt: skip
        drafter = gr.Dropdown(
            drafter_choices(workspace, first),
            allow_custom_value=True,  # else Gradio refuses what the pair offered a moment ago
            value=first or NO_DRAFTER, label=texts.label("drafter"),
            scale=3, min_width=170, elem_id="drafter", interactive=True,
        )  # fmt: skip
        block_size = gr.Dropdown(
            block_choices(workspace, first), value=AUTO,
            label=texts.label("block_size"), scale=1, allow_custom_value=True,
            min_width=145, elem_id="block-size", interactive=True,
        )  # fmt: skip
        backend = gr.Dropdown(
            backends, value=backend_name, label=texts.label("backend"), scale=1,
            min_width=120, elem_id="backend", interactive=True, allow_custom_value=True,
            visible=_several_work(workspace),
        )  # fmt: skip
        precision = gr.Dropdown(
            precision_choices(backend_name), value=AUTO, label=texts.label("precision"), scale=1,
            min_width=120, elem_id="precision", interactive=True, allow_custom_value=True,
        )  # fmt: skip
        device = gr.Dropdown(
            devices, value=AUTO, label=texts.label("device"), scale=1, min_width=110,
            elem_id="device", interactive=True, allow_custom_value=True, visible=len(devices) > 2,
        )  # fmt: skip
        more = gr.Button(texts.label("more"), size="sm", elem_id="bar-more")
    more.click(None, js=_FOLD_JS)
    facts = gr.HTML(render_pair(workspace, first), elem_id="pair-facts", js_on_load=OPEN_HUB_JS)
    return ModelBar(pair, drafter, block_size, precision, device, backend, facts)


def connect_model_bar(bar: ModelBar, workspace: Workspace) -> None:
    """Choosing a pair offers its drafters; choosing either says what is known about it."""

    def choose_pair(name: str | None, *how: str | None) -> tuple[Any, ...]:
        return offer_pair(workspace, name, *how)

    def choose_drafter(name: str | None, drafter: str | None, *how: str | None) -> tuple[Any, str]:
        shown = name if drafter in (None, NO_DRAFTER) else drafter
        blocks = gr.Dropdown(block_choices(workspace, shown), value=AUTO)
        return blocks, render_pair(workspace, shown, *how)

    def choose_how(name: str | None, drafter: str | None, *how: str | None) -> str:
        return choose_drafter(name, drafter, *how)[1]

    how = [bar.backend, bar.precision, bar.device]
    bar.pair.input(choose_pair, [bar.pair, *how], bar.follows_pair, **BAR_EVENT)
    asked = [bar.pair, bar.drafter, *how]
    bar.drafter.input(choose_drafter, asked, [bar.block_size, bar.facts], **BAR_EVENT)
    offered = bar.backend.input(
        offer_backend, [bar.backend], [bar.precision, bar.device], **BAR_EVENT
    )
    for event in (bar.precision.input, bar.device.input, offered.then):
        event(choose_how, asked, bar.facts, **BAR_EVENT)


def offer_pair(
    workspace: Workspace,
    name: str | None,
    backend: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    *,
    drafter: str | None = None,
) -> tuple[Any, ...]:
    """What `ModelBar.follows_pair` become once a pair is chosen.

    Args:
        workspace: knows the pairs.
        name: of the pair.
        backend: chosen before; it stays where the pair runs on it.
        precision: chosen before; it stays where the backend does.
        device: the same.
        drafter: chosen before; it stays where it drafts for the pair, as does the block size. None
            gives way to the pair's own.
    """
    drafters = drafter_choices(workspace, name)
    fitting = [value for _, value in drafters]
    drafts = drafter in fitting
    shown = drafter if drafts and drafter != NO_DRAFTER else name
    backends = backend_choices(workspace, name)
    default = backends[0][1]
    runs = backend in [value for _, value in backends]
    of_backend = (gr.skip(), gr.skip()) if runs else offer_backend(default)
    how = (backend, precision, device) if runs else (default, None, None)
    return (
        offer_choices(drafters, name if name in fitting else fitting[0], stays=drafts),
        offer_choices(block_choices(workspace, shown), AUTO, stays=drafts),
        offer_choices(backends, default, stays=runs),
        *of_backend,
        render_pair(workspace, shown, *how),
    )


def offer_backend(backend: str | None) -> tuple[Any, Any]:
    """What the boxes precision and device become once a backend is chosen."""
    devices = device_choices(backend)
    return (
        gr.Dropdown(precision_choices(backend), value=AUTO),
        gr.Dropdown(devices, value=AUTO, visible=len(devices) > 2),
    )


def refresh_model_bar(bar: ModelBar, workspace: Workspace, values: Sequence[Any]) -> dict[Any, Any]:
    """Offer what the registry knows and the disk holds now; what can stay as it is chosen does.

    Args:
        bar: the widgets.
        workspace: knows the pairs.
        values: of `bar.inputs`.
    """
    name, drafter, _, precision, device, backend = values
    stays = find_pair(workspace, name) is not None
    known = name if stays else first_ready(workspace)
    kept = drafter if stays else None
    offered = offer_pair(workspace, known, backend, precision, device, drafter=kept)
    return {
        bar.pair: offer_choices(pair_choices(workspace), known, stays=stays),
        **dict(zip(bar.follows_pair, offered, strict=True)),
    }


def first_ready(workspace: Workspace) -> str | None:
    """The first pair of the registry that can be loaded here."""
    names = (pair.name for pair in workspace.pairs())
    return next((name for name in names if workspace.state(name).status == "ready"), None)


def pair_choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Every pair, the ready ones first; the others say what they wait for."""
    states = [(pair, workspace.state(pair.name)) for pair in workspace.pairs()]
    states.sort(key=lambda item: item[1].status != "ready")
    return [
        (pair.title if state.status == "ready" else f"{pair.title}  ·  {say_status(state)}",
         pair.name)
        for pair, state in states
    ]  # fmt: skip


def drafter_choices(workspace: Workspace, name: str | None) -> list[tuple[str, str]]:
    """Drafters for the pair's target, then none."""
    none = (texts.say("no_drafter"), NO_DRAFTER)
    pair = find_pair(workspace, name)
    if pair is None:
        return [none]
    fitting = find_target(workspace.registry, keys_of(pair)[0]).drafters
    return [
        *((_drafter_label(workspace.registry.get(each.pair)), each.pair) for each in fitting),
        none,
    ]


def block_choices(workspace: Workspace, name: str | None) -> list[tuple[str, str]]:
    """Block sizes up to the one that the drafter was trained for, then experiments."""
    pair = find_pair(workspace, name)
    if pair is not None and pair.remote:
        return [(texts.say("auto"), AUTO)]  # the server was started with its block size
    own = pair.block_size if pair else None
    largest = own or BLOCK_SIZES[-1]
    auto = (texts.say("auto") + (f" ({own})" if own else ""), AUTO)
    choices = [(str(size), str(size)) for size in BLOCK_SIZES if size <= largest]
    if own:
        choices += [
            (f"{size} ({texts.say('experiment')})", str(size))
            for size in EXPERIMENTAL_BLOCK_SIZES
            if size > own
        ]
    return [auto, *choices]


def offer_choices(choices: Sequence[tuple[Any, str]], value: str | None, *, stays: bool) -> Any:
    """Other options of a box, and a value unless the box keeps its own.

    A value that stays is not sent: the user may have chosen another since the page asked.
    """
    return gr.update(choices=choices) if stays else gr.Dropdown(choices, value=value)


def _several_work(workspace: Workspace) -> bool:
    reasons = [each.unavailable_reason() for each in workspace.backends().values()]
    return reasons.count(None) > 1


def _drafter_label(pair: Pair) -> str:
    if pair.drafter is None:
        return pair.title
    if pair.drafter.repo:
        return pair.drafter.repo
    if pair.drafter.server:
        return texts.say("server_drafter", model=pair.drafter.model)
    embedded = str(pair.drafter.path).startswith("embedded")
    return texts.say("embedded_drafter") if embedded else pair.title
