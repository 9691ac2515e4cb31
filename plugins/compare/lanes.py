"""The lane editor: which decoders race, and how each differs from the bar's choice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import gradio as gr

from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import PairNotReady, RequestError
from dflash_app.race import LaneSpec
from dflash_app.request import GenerationRequest, Message, Mode, Policy
from dflash_app.session import with_seed
from dflash_app.ui.backend_choices import precision_choices
from dflash_app.ui.choice import AUTO, NO_DRAFTER, Choice
from dflash_app.ui.model_bar import FOLLOWING, block_choices, drafter_choices
from dflash_app.ui.shell import Page

from .words import texts

SAME = "same"
OFF = "off"
DEFAULTS = ("ar", "dflash", OFF)
"""Kinds of the lanes where nobody has chosen."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Widgets of one lane."""

    kind: gr.Dropdown
    drafter: gr.Dropdown
    block_size: gr.Dropdown
    precision: gr.Dropdown
    drafts: gr.Dropdown

    @property
    def inputs(self) -> list[gr.Dropdown]:
        return [self.kind, self.drafter, self.block_size, self.precision, self.drafts]


@dataclass(frozen=True, slots=True)
class LaneEditor:
    """The lanes' widgets; `inputs` is the order in which `read_lanes` takes their values."""

    lanes: tuple[Lane, ...]

    @property
    def inputs(self) -> list[gr.Dropdown]:
        return [widget for lane in self.lanes for widget in lane.inputs]


def build_lanes(page: Page) -> LaneEditor:
    """Make the editor; its boxes follow the model bar."""
    with gr.Accordion(texts.label("editor"), open=False, elem_id="race-lanes-editor"):
        editor = LaneEditor(
            tuple(_build_lane(page, number, kind) for number, kind in enumerate(DEFAULTS, start=1))
        )
        gr.Markdown(texts.label("editor_hint"), elem_classes="race-hint")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    for lane in editor.lanes:
        lane.kind.input(_show_boxes, lane.kind, lane.inputs[1:], **quiet)
    bar = page.bar

    def follow(pair: str | None, backend: str | None) -> list[Any]:
        return _offers(page, pair, backend) * len(editor.lanes)

    followers = [box for lane in editor.lanes for box in lane.inputs[1:4]]
    followed = [bar.pair.change, bar.backend.change]
    gr.on(followed, follow, [bar.pair, bar.backend], followers, **FOLLOWING)
    return editor


def read_lanes(
    page: Page, bar: Sequence[Any], values: Sequence[Any], request: GenerationRequest
) -> tuple[list[LaneSpec], str | None]:
    """What races, and the backend that all lanes run on.

    Args:
        page: knows pairs and what is offered.
        bar: values of `page.bar.inputs`.
        values: of `LaneEditor.inputs`.
        request: what all lanes have in common, and what a lane takes that says nothing else.

    Raises:
        RequestError: a value that no box offers.
        PairNotReady, UnknownPair: a lane's pair cannot be loaded here, or has no drafter.
    """
    size = len(values) // len(DEFAULTS)
    rows = [values[index : index + size] for index in range(0, len(values), size)]
    rows = [row for row in rows if row[0] != OFF]
    base = page.read(bar)
    choices = [_choose(page, base, bar, row) for row in rows]
    for choice in choices:
        page.check_ready(choice)
    policies: list[Policy] = [
        _policy(row[-1], request.policy) if choice.mode == "dflash" else "fixed"
        for choice, row in zip(choices, rows, strict=True)
    ]
    if "adaptive" not in policies:
        # One for all lanes, so that a command can repeat the race.
        request = with_seed(replace(request, policy="fixed"))
    specs = [
        LaneSpec(
            choice.pair,
            choice.options(),
            replace(request, mode=choice.mode, block_size=choice.block_size, policy=policy),
        )
        for choice, policy in zip(choices, policies, strict=True)
    ]
    return specs, base.backend


def _build_lane(page: Page, number: int, kind: str) -> Lane:
    def named(suffix: str) -> dict[str, Any]:
        return {"elem_id": f"race-lane-{number}-{suffix}", "interactive": True}

    bar = page.bar
    drafting, racing = kind == "dflash", kind != OFF
    kinds = ["ar", "dflash", OFF] if number == len(DEFAULTS) else ["ar", "dflash"]
    drafters, blocks, precisions = _choices(page, bar.pair.value, bar.backend.value)
    policies = [(texts.label(f"drafts_{each}"), each) for each in get_args(Policy)]
    with gr.Row(elem_classes="race-lane"):
        return Lane(
            gr.Dropdown(
                [(texts.label(f"kind_{each}"), each) for each in kinds], value=kind, scale=2,
                label=texts.label(f"lane_{number}"), min_width=150, **named("kind"),
            ),
            gr.Dropdown(
                drafters, value=SAME, label=texts.label("drafter"), scale=2, min_width=150,
                allow_custom_value=True, visible=drafting and not page.public, **named("drafter"),
            ),
            gr.Dropdown(
                blocks, value=SAME, label=texts.label("block_size"), scale=1, min_width=130,
                allow_custom_value=True, visible=drafting, **named("block-size"),
            ),
            gr.Dropdown(
                precisions, value=SAME, label=texts.label("precision"), scale=1, min_width=130,
                allow_custom_value=True, visible=racing and not page.public, **named("precision"),
            ),
            gr.Dropdown(
                [(texts.label("same_below"), SAME), *policies], value=SAME, scale=1,
                label=texts.label("drafts"), min_width=130, visible=drafting, **named("drafts"),
            ),
        )  # fmt: skip


def _choices(page: Page, pair: Any, backend: Any) -> tuple[list[Any], ...]:
    same = (texts.label("same"), SAME)
    drafters = [each for each in drafter_choices(page.workspace, pair) if each[1] != NO_DRAFTER]
    return (
        [same, *drafters],
        [same, *block_choices(page.workspace, pair)],
        [same, *precision_choices(backend)],
    )


def _offers(page: Page, pair: Any, backend: Any) -> list[Any]:
    """The boxes of one lane once another pair or backend is chosen."""
    return [gr.Dropdown(choices, value=SAME) for choices in _choices(page, pair, backend)]


def _show_boxes(kind: str) -> list[Any]:
    drafting = kind == "dflash"
    shown = (drafting, drafting, kind != OFF, drafting)
    return [gr.Dropdown(visible=each) for each in shown]


def _choose(page: Page, base: Choice, bar: Sequence[Any], row: Sequence[Any]) -> Choice:
    """One lane's choice: the bar's, but for what the lane says itself."""
    kind, drafter, block_size, precision, _ = row
    if kind not in ("ar", "dflash"):
        raise RequestError(f"{str(kind)[:20]!r} is no lane: choose one from the list.")
    pair, bar_drafter, bar_block, bar_precision, *where = bar
    plain = kind == "ar"
    own_block = AUTO if plain or bar_drafter == NO_DRAFTER else bar_block
    choice = page.read(
        [
            pair,
            base.pair if plain or drafter == SAME or page.public else drafter,
            own_block if plain or block_size == SAME else block_size,
            bar_precision if precision == SAME else precision,
            *where,
        ]
    )
    if plain:
        return replace(choice, mode="ar", block_size=None)
    if page.workspace.registry.get(choice.pair).drafter is None:
        raise PairNotReady(texts.say("no_drafter", pair=choice.pair))
    return choice


def _policy(value: Any, usual: Policy) -> Policy:
    if value == SAME:
        return usual
    if value not in get_args(Policy):
        raise RequestError(f"{str(value)[:20]!r} is no draft length: choose one from the list.")
    return value  # type: ignore[no-any-return]


def default_specs() -> list[LaneSpec]:
    """The lanes of a race that nobody has asked for yet, to draw their places."""
    usual, modes = GenerationRequest((Message("user", SAME),)), get_args(Mode)
    return [LaneSpec("", LoadOptions(), replace(usual, mode=mode)) for mode in modes]
