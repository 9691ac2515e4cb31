"""The row of dropdowns that every tab shares: pair, drafter, block size, precision, device."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from dflash_app.engine.protocol import LoadOptions, Quantization
from dflash_app.errors import RequestError
from dflash_app.registry.pair import Pair
from dflash_app.request import MAX_BLOCK_SIZE, Mode
from dflash_app.ui.format import escape_html, format_bytes, format_decimal, format_ratio
from dflash_app.workspace import PairState, Workspace

NO_DRAFTER = "none"
AUTO = "auto"
PRECISIONS = [
    ("auto", AUTO), ("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16"),
    ("nf4 (4-bit)", "nf4"), ("int8 (8-bit)", "int8"),
]  # fmt: skip
BLOCK_SIZES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
EXPERIMENTAL_BLOCK_SIZES = (24, 32, 48, MAX_BLOCK_SIZE)
"""Offered above the one that a drafter was trained for, and labelled as what they are."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model bar says.

    Attributes:
        pair: name of the pair to load.
        mode: "ar" where no drafter was chosen.
        block_size: None takes the drafter's own.
        dtype: None lets the backend choose.
        device: None lets the backend choose.
        quantization: of the target's weights.
    """

    pair: str
    mode: Mode
    block_size: int | None
    dtype: str | None
    device: str | None
    quantization: Quantization | None = None

    def options(self) -> LoadOptions:
        """How to load the pair while the page is served."""
        return LoadOptions(
            device=self.device,
            dtype=self.dtype,
            quantization=self.quantization,
            num_threads=page_threads(),
        )


@dataclass(frozen=True, slots=True)
class ModelBar:
    """The widgets, in the order in which `read_choice` takes their values."""

    pair: gr.Dropdown
    drafter: gr.Dropdown
    block_size: gr.Dropdown
    precision: gr.Dropdown
    device: gr.Dropdown
    facts: gr.HTML

    @property
    def inputs(self) -> list[gr.Dropdown]:
        return [self.pair, self.drafter, self.block_size, self.precision, self.device]


def page_threads() -> int:
    """Compute threads while a browser may share the machine: all cores but one, at least one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores - 1)


def build_model_bar(workspace: Workspace) -> ModelBar:
    """Make the row; it starts with the first pair that is ready."""
    first = first_ready(workspace) or next((pair.name for pair in workspace.pairs()), None)
    devices = list_devices()
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
        precision = gr.Dropdown(
            PRECISIONS, value=AUTO, label="Precision", scale=1, min_width=100,
            elem_id="precision", interactive=True,
        )  # fmt: skip
        device = gr.Dropdown(
            devices, value=AUTO, label="Device", scale=1, min_width=100, elem_id="device",
            interactive=True, visible=len(devices) > 2,
        )  # fmt: skip
    facts = gr.HTML(render_pair(workspace, first), elem_id="pair-facts")
    return ModelBar(pair, drafter, block_size, precision, device, facts)


def connect_model_bar(bar: ModelBar, workspace: Workspace) -> None:
    """Choosing a pair offers its drafters; choosing either says what is known about it."""

    def choose_pair(name: str | None) -> tuple[Any, Any, str]:
        return offer_pair(workspace, name)

    def choose_drafter(name: str | None, drafter: str | None) -> tuple[Any, str]:
        shown = name if drafter in (None, NO_DRAFTER) else drafter
        blocks = gr.Dropdown(block_choices(workspace, shown), value=AUTO)
        return blocks, render_pair(workspace, shown)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    bar.pair.input(choose_pair, [bar.pair], [bar.drafter, bar.block_size, bar.facts], **quiet)
    bar.drafter.input(choose_drafter, [bar.pair, bar.drafter], [bar.block_size, bar.facts], **quiet)


def offer_pair(workspace: Workspace, name: str | None) -> tuple[Any, Any, str]:
    """What the boxes drafter and block size and the facts become once a pair is chosen."""
    drafters = drafter_choices(workspace, name)
    values = [value for _, value in drafters]
    drafter = name if name in values else values[0]
    return (
        gr.Dropdown(drafters, value=drafter),
        gr.Dropdown(block_choices(workspace, name), value=AUTO),
        render_pair(workspace, name),
    )


def refresh_model_bar(bar: ModelBar, workspace: Workspace, name: str | None) -> dict[Any, Any]:
    """Offer what the registry knows and the disk holds now: for a page that was just loaded."""
    known = name if find_pair(workspace, name) else first_ready(workspace)
    drafters, blocks, facts = offer_pair(workspace, known)
    return {
        bar.pair: gr.Dropdown(pair_choices(workspace), value=known),
        bar.drafter: drafters,
        bar.block_size: blocks,
        bar.facts: facts,
    }


def read_choice(values: Sequence[Any]) -> Choice:
    """Turn the values of `ModelBar.inputs` into a choice."""
    pair, drafter, block_size, precision, device = values
    plain = drafter in (None, NO_DRAFTER)
    return Choice(
        pair=str(pair or "") if plain else str(drafter),
        mode="ar" if plain else "dflash",
        block_size=None if plain else _block_size(block_size),
        dtype=None if precision in (None, AUTO, "nf4", "int8") else str(precision),
        device=None if device in (None, AUTO) else str(device),
        quantization=precision if precision in ("nf4", "int8") else None,
    )


def _block_size(value: Any) -> int | None:
    if value in (None, AUTO):
        return None
    if not str(value).isdecimal() or len(str(value)) > 4:
        raise RequestError(f"{str(value)[:20]!r} is no block size: choose one from the list.")
    return int(value)


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
    fitting = workspace.registry.drafters_for(pair.target)
    return [(_drafter_label(each), each.name) for each in fitting] + [none]


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


def find_pair(workspace: Workspace, name: str | None) -> Pair | None:
    """The pair of that name, or None."""
    return next((pair for pair in workspace.pairs() if pair.name == name), None)


def say_status(state: PairState) -> str:
    """A pair's state in two words, as `dflash-app pairs` says it."""
    return state.status


def list_devices() -> list[tuple[str, str]]:
    """Devices to offer, told without importing a tensor library."""
    devices = [("auto", AUTO), ("CPU", "cpu")]
    devices += [
        (f"GPU {index}", f"cuda:{index}")
        for index, _ in enumerate(sorted(Path("/dev").glob("nvidia[0-9]*")))
    ]
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        devices.append(("Apple GPU", "mps"))
    return devices


def render_pair(workspace: Workspace, name: str | None) -> str:
    """One line of facts, and what is missing where the pair cannot run here."""
    pair = find_pair(workspace, name)
    if pair is None:
        return '<div class="notice warning" role="alert">No pair is known.</div>'
    state = workspace.state(pair.name)
    missing = "" if state.status == "ready" else " missing"
    parts = [f'<span class="badge{missing}">{escape_html(say_status(state))}</span>']
    parts += [f"<span>{fact}</span>" for fact in _facts(pair)]
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


def _drafter_label(pair: Pair) -> str:
    if pair.drafter is None:
        return pair.title
    if pair.drafter.repo:
        return pair.drafter.repo
    return "embedded drafter" if str(pair.drafter.path).startswith("embedded") else pair.title
