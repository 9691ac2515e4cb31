"""Below the model bar: a pair of the user's own, looked at first, then saved and chosen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.registry.custom import read_ref
from dflash_app.ui.components import Level, render_notice, render_notices
from dflash_app.ui.format import escape_html, format_bytes, format_count
from dflash_app.ui.model_bar import ModelBar, offer_pair, pair_choices
from dflash_app.workspace import Workspace

if TYPE_CHECKING:
    from dflash_app.backends.torch.candidate import Candidate

_HINT = (
    '<p class="add-pair-hint">A target is any chat model of a family that the app knows; a drafter '
    "was trained for it with DFlash. Check reads configs and tensor headers only, and downloads "
    "nothing.</p>"
)


@dataclass(frozen=True, slots=True)
class AddPair:
    """The section's widgets and what they work on.

    Attributes:
        folders: whether local folders may be named: not where other machines reach the page.
    """

    workspace: Workspace
    bar: ModelBar
    folders: Callable[[], bool]
    target: gr.Textbox
    drafter: gr.Textbox
    name: gr.Textbox
    result: gr.HTML

    @property
    def inputs(self) -> list[gr.Textbox]:
        return [self.target, self.drafter, self.name]

    @property
    def outputs(self) -> list[Any]:
        bar = self.bar
        return [self.result, *self.inputs, bar.pair, *bar.follows_pair]

    def on_check(self, target: str, drafter: str, name: str) -> str:
        """Show what the two models are and whether they fit."""
        try:
            return render_candidate(self._consider(target, drafter, name))
        except DFlashAppError as error:
            return render_notice(str(error), "error")

    def on_add(self, target: str, drafter: str, name: str) -> dict[Any, Any]:
        """Save the pair, unless something forbids it, and choose it in the model bar."""
        try:
            considered = self._consider(target, drafter, name)
            from dflash_app.backends.torch.candidate import check_fit

            found = check_fit(considered)
            self.workspace.add_pair(found.pair)
        except DFlashAppError as error:
            return {self.result: render_notice(str(error), "error")}
        bar, added = self.bar, found.pair.name
        saved = render_notice(f"{added} is saved in your registry and chosen above.", "success")
        return {
            self.result: saved + render_notices(_warnings(found)),  # what is missing stands above
            **dict.fromkeys(self.inputs, ""),
            bar.pair: gr.Dropdown(pair_choices(self.workspace), value=added),
            **dict(zip(bar.follows_pair, offer_pair(self.workspace, added), strict=True)),
        }

    def _consider(self, target: str, drafter: str, name: str) -> "Candidate":
        with self.workspace.not_importing():
            from dflash_app.backends.torch.candidate import consider

        folders = self.folders()
        return consider(
            self.workspace.registry,
            name or "",
            read_ref(target or "", role="target", folders=folders),
            read_ref(drafter or "", role="drafter", folders=folders),
        )


def build_add_pair(workspace: Workspace, bar: ModelBar, folders: Callable[[], bool]) -> None:
    """Build the section.

    Args:
        workspace: whose registry grows.
        bar: chooses the pair that was added.
        folders: asked at every click; False refuses local folders.
    """
    where = "owner/name or a folder" if folders() else "owner/name"
    box: dict[str, Any] = {"lines": 1, "max_lines": 1, "min_width": 220}
    with gr.Accordion("Add a pair", open=False, elem_id="add-pair", elem_classes="add-pair"):
        gr.HTML(_HINT)
        with gr.Row():
            target = gr.Textbox(
                label="Target", placeholder=where, scale=3, elem_id="add-target", **box
            )
            drafter = gr.Textbox(
                label="Drafter model", placeholder=where, scale=3, elem_id="add-drafter", **box
            )
            name = gr.Textbox(
                label="Name", placeholder="from the drafter's", scale=2, elem_id="add-name", **box
            )
        with gr.Row():
            button: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 130}
            check = gr.Button("Check", elem_id="add-check", **button)
            add = gr.Button("Add", variant="primary", elem_id="add-save", **button)
        result = gr.HTML(elem_id="add-result")
    section = AddPair(workspace, bar, folders, target, drafter, name, result)
    event: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    check.click(section.on_check, section.inputs, result, **event)
    gr.on(
        [add.click, target.submit, drafter.submit, name.submit],
        section.on_add,
        inputs=section.inputs,
        outputs=section.outputs,
        **event,
    )


def render_candidate(found: "Candidate") -> str:
    """What the two models are, and what forbids or hampers the pair."""
    rows = [("Target", _target_facts(found)), ("Drafter", _drafter_facts(found))]
    drawn = "".join(
        f"<div><dt>{title}</dt><dd>{escape_html(' · '.join(facts))}</dd></div>"
        for title, facts in rows
    )
    notices: list[tuple[str, Level]] = []
    if found.fit is not None:
        notices += [(reason, "error") for reason in found.fit.reasons]
        notices += [("The drafter fits this target.", "success")] if found.fit.fits else []
    missing: list[tuple[str, Level]] = [(sentence, "warning") for sentence in found.missing]
    html = render_notices([*notices, *_warnings(found), *missing])
    return f'<dl class="add-pair-facts">{drawn}</dl>{html}'


def _warnings(found: "Candidate") -> list[tuple[str, Level]]:
    return [(warning, "warning") for warning in (found.fit.warnings if found.fit else ())]


def _target_facts(found: "Candidate") -> list[str]:
    target = found.target
    if target is None:
        return [found.pair.target.source, "not on this machine"]
    return [
        target.family,
        f"{target.num_layers} layers",
        f"hidden size {target.hidden_size}",
        f"vocabulary {format_count(target.vocab_size)}",
        f"context {format_count(target.context_length)}",
        *([f"quantised ({target.quantization})"] if target.quantization else []),
        format_bytes(target.size_bytes),
    ]


def _drafter_facts(found: "Candidate") -> list[str]:
    drafter = found.drafter
    if drafter is None:
        source = found.pair.drafter.source if found.pair.drafter else ""
        return [source, "not on this machine"]
    return [
        f"{drafter.generation} ({drafter.format})",
        f"block size {drafter.block_size}",
        f"layers: {drafter.attention}",
        f"hidden size {drafter.hidden_size}",
        f"taps layers {', '.join(map(str, drafter.target_layer_ids))}",
        f"mask token {drafter.mask_token_id}",
        format_bytes(drafter.size_bytes),
    ]
