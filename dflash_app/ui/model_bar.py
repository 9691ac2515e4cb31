"""The row of dropdowns that every tab shares: pair, drafter, block, backend, precision, device."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dflash_app.errors import DFlashAppError, UnknownPair
from dflash_app.hub.choices import find_target, keys_of
from dflash_app.hub.fit import Device, fit_pair
from dflash_app.registry.pair import Pair
from dflash_app.request import MAX_BLOCK_SIZE
from dflash_app.ui.backend_choices import backend_choices, device_choices, precision_choices
from dflash_app.ui.choice import AUTO, NO_DRAFTER
from dflash_app.ui.format import escape_html, format_bytes, format_decimal, format_ratio
from dflash_app.workspace import PairState, Workspace

BLOCK_SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
EXPERIMENTAL_BLOCK_SIZES = (24, 32, 48, MAX_BLOCK_SIZE)
"""Offered above the one that a drafter was trained for, and labelled as what they are."""


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
            pair_choices(workspace), value=first, label="Pair", scale=4, min_width=220,
            elem_id="pair", interactive=True,
        )  # fmt: skip
        drafter = gr.Dropdown(
            drafter_choices(workspace, first),
            allow_custom_value=True,  # else Gradio refuses what the pair offered a moment ago
            value=first or NO_DRAFTER, label="Drafter",
            scale=3, min_width=170, elem_id="drafter", interactive=True,
        )  # fmt: skip
        block_size = gr.Dropdown(
            block_choices(workspace, first), value=AUTO, label="Block size", scale=1,
            allow_custom_value=True,
            min_width=135, elem_id="block-size", interactive=True,
        )  # fmt: skip
        backend = gr.Dropdown(
            backends, value=backend_name, label="Backend", scale=1, min_width=110,
            elem_id="backend", interactive=True, allow_custom_value=True,
            visible=_several_work(workspace),
        )  # fmt: skip
        precision = gr.Dropdown(
            precision_choices(backend_name), value=AUTO, label="Precision", scale=1, min_width=100,
            elem_id="precision", interactive=True, allow_custom_value=True,
        )  # fmt: skip
        device = gr.Dropdown(
            devices, value=AUTO, label="Device", scale=1, min_width=100, elem_id="device",
            interactive=True, allow_custom_value=True, visible=len(devices) > 2,
        )  # fmt: skip
    facts = gr.HTML(render_pair(workspace, first), elem_id="pair-facts")
    return ModelBar(pair, drafter, block_size, precision, device, backend, facts)


def connect_model_bar(bar: ModelBar, workspace: Workspace) -> None:
    """Choosing a pair offers its drafters; choosing either says what is known about it."""

    def choose_pair(name: str | None, backend: str | None) -> tuple[Any, ...]:
        return offer_pair(workspace, name, backend)

    def choose_drafter(name: str | None, drafter: str | None) -> tuple[Any, str]:
        shown = name if drafter in (None, NO_DRAFTER) else drafter
        blocks = gr.Dropdown(block_choices(workspace, shown), value=AUTO)
        return blocks, render_pair(workspace, shown)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    bar.pair.input(choose_pair, [bar.pair, bar.backend], bar.follows_pair, **quiet)
    bar.drafter.input(choose_drafter, [bar.pair, bar.drafter], [bar.block_size, bar.facts], **quiet)
    bar.backend.input(offer_backend, [bar.backend], [bar.precision, bar.device], **quiet)


def offer_pair(
    workspace: Workspace, name: str | None, backend: str | None = None
) -> tuple[Any, ...]:
    """What `ModelBar.follows_pair` become once a pair is chosen.

    Args:
        workspace: knows the pairs.
        name: of the pair.
        backend: chosen before; it stays where the pair runs on it.
    """
    drafters = drafter_choices(workspace, name)
    values = [value for _, value in drafters]
    drafter = name if name in values else values[0]
    backends = backend_choices(workspace, name)
    names = [value for _, value in backends]
    chosen = backend if backend in names else names[0]
    # A precision and a device that were chosen for this backend stay as they are.
    of_backend = (gr.skip(), gr.skip()) if chosen == backend else offer_backend(chosen)
    return (
        gr.Dropdown(drafters, value=drafter),
        gr.Dropdown(block_choices(workspace, name), value=AUTO),
        gr.Dropdown(backends, value=chosen),
        *of_backend,
        render_pair(workspace, name),
    )


def offer_backend(backend: str | None) -> tuple[Any, Any]:
    """What the boxes precision and device become once a backend is chosen."""
    devices = device_choices(backend)
    return (
        gr.Dropdown(precision_choices(backend), value=AUTO),
        gr.Dropdown(devices, value=AUTO, visible=len(devices) > 2),
    )


def refresh_model_bar(
    bar: ModelBar, workspace: Workspace, name: str | None, backend: str | None = None
) -> dict[Any, Any]:
    """Offer what the registry knows and the disk holds now: for a page that was just loaded."""
    known = name if find_pair(workspace, name) else first_ready(workspace)
    offered = zip(bar.follows_pair, offer_pair(workspace, known, backend), strict=True)
    return {bar.pair: gr.Dropdown(pair_choices(workspace), value=known), **dict(offered)}


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
    none = ("none (plain AR)", NO_DRAFTER)
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
    own = pair.block_size if pair else None
    largest = own or BLOCK_SIZES[-1]
    auto = (f"auto ({own})" if own else AUTO, AUTO)
    choices = [(str(size), str(size)) for size in BLOCK_SIZES if size <= largest]
    if own:
        choices += [
            (f"{size} (experiment)", str(size)) for size in EXPERIMENTAL_BLOCK_SIZES if size > own
        ]
    return [auto, *choices]


def _several_work(workspace: Workspace) -> bool:
    reasons = [each.unavailable_reason() for each in workspace.backends().values()]
    return reasons.count(None) > 1


def find_pair(workspace: Workspace, name: str | None) -> Pair | None:
    """The pair of that name, composed ones too, or None."""
    try:
        return workspace.registry.get(name or "")
    except UnknownPair:
        return None


def say_status(state: PairState) -> str:
    """A pair's state in two words, as `dflash-app pairs` says it."""
    return state.status


def render_pair(workspace: Workspace, name: str | None) -> str:
    """One line of facts, and what is missing where the pair cannot run here."""
    pair = find_pair(workspace, name)
    if pair is None:
        return '<div class="notice warning" role="alert">No pair is known.</div>'
    state = workspace.state(pair.name)
    missing = "" if state.status == "ready" else " missing"
    parts = [f'<span class="badge{missing}">{escape_html(say_status(state))}</span>']
    facts = _facts(pair) + (_memory(pair) if state.status == "ready" else [])
    parts += [f"<span>{fact}</span>" for fact in facts]
    html = f'<div class="pair-facts">{"".join(parts)}</div>'
    if state.status != "ready" and state.reason:
        html += f'<div class="notice warning" role="status">{escape_html(state.reason)}</div>'
    return html


def _facts(pair: Pair) -> list[str]:
    facts = []
    for role, ref in (("target", pair.target), ("drafter", pair.drafter)):
        if ref is not None and not ref.source.startswith("embedded:"):
            facts.append(f"{role} <b>{escape_html(ref.source)}</b>")
    if pair.target.source.startswith("embedded:"):
        facts.append("ships with the app")
    sizes = [ref.size_bytes for ref in (pair.target, pair.drafter) if ref is not None]
    if sizes and None not in sizes:
        facts.append(f"size <b>{format_bytes(sum(size or 0 for size in sizes))}</b>")
    if pair.target.licence:
        facts.append(f"licence <b>{escape_html(pair.target.licence)}</b>")
    if pair.target.gated:
        facts.append("<b>gated</b>")
    if pair.thinking:
        facts.append(f"drafter trained with thinking <b>{escape_html(pair.thinking)}</b>")
    best = next(iter(pair.published), None)
    if best is not None:
        figures = [format_ratio(best.speedup)] if best.speedup else []
        if best.acceptance_length:
            figures.append(f"acceptance {format_decimal(best.acceptance_length)}")
        where = f"{best.task}, {best.setup or best.source}"
        facts.append(
            f'<span title="{escape_html(where)}">published <b>{escape_html(", ".join(figures))}</b>'
            f" on {escape_html(best.task)}</span>"
        )
    return facts


def _memory(pair: Pair) -> list[str]:
    """What the pair takes in 16 bits; the sum's parts stand where the pointer rests on it."""
    try:
        need = fit_pair(pair, [Device("any", 0)], online=False).fits[0].need
    except DFlashAppError:
        return []
    if need is None:
        return []
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in need.breakdown())
    return [
        f'<span title="{escape_html(parts)}">needs about <b>{format_bytes(need.total_bytes)}</b> '
        f"in bfloat16 at {need.context_length:,} tokens</span>"
    ]


def _drafter_label(pair: Pair) -> str:
    if pair.drafter is None:
        return pair.title
    if pair.drafter.repo:
        return pair.drafter.repo
    return "embedded drafter" if str(pair.drafter.path).startswith("embedded") else pair.title
