"""Below the model bar: a pair of the user's own, looked at first, then saved and chosen."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from dflash_app.errors import DFlashAppError
from dflash_app.registry.custom import read_ref
from dflash_app.ui.components import Level, render_notice, render_notices
from dflash_app.ui.format import escape_html, format_bytes, format_count
from dflash_app.ui.language import Texts
from dflash_app.ui.model_bar import ModelBar, offer_pair, pair_choices
from dflash_app.workspace import Workspace

if TYPE_CHECKING:
    from dflash_app.backends.torch.candidate import Candidate

_texts = Texts.load("add_pair", Path(__file__).with_name("texts") / "add_pair.yaml")


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

    def on_check(self, target: str, drafter: str, name: str) -> Iterator[str]:
        """Show what the two models are and whether they fit."""
        yield render_notice(_texts.say("reading"))
        try:
            yield render_candidate(self._consider(target, drafter, name))
        except DFlashAppError as error:
            yield render_notice(str(error), "error")

    def on_add(self, target: str, drafter: str, name: str) -> Iterator[dict[Any, Any]]:
        """Save the pair, unless something forbids it, and choose it in the model bar."""
        yield {self.result: render_notice(_texts.say("reading"))}
        yield self._add(target, drafter, name)

    def _add(self, target: str, drafter: str, name: str) -> dict[Any, Any]:
        try:
            considered = self._consider(target, drafter, name)
            from dflash_app.backends.torch.candidate import check_fit

            found = check_fit(considered)
            self.workspace.add_pair(found.pair)
        except DFlashAppError as error:
            return {self.result: render_notice(str(error), "error")}
        bar, added = self.bar, found.pair.name
        saved = render_notice(_texts.say("saved", name=added), "success")
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
    where = _texts.label("where_or_folder" if folders() else "where")
    box: dict[str, Any] = {"lines": 1, "max_lines": 1, "min_width": 220}
    title = _texts.label("section")
    with gr.Accordion(title, open=False, elem_id="add-pair", elem_classes="add-pair"):
        gr.HTML(f'<p class="add-pair-hint">{_texts.label("hint")}</p>')
        with gr.Row():
            target = gr.Textbox(
                label=_texts.label("target"), placeholder=where, scale=3, elem_id="add-target",
                **box,
            )  # fmt: skip
            drafter = gr.Textbox(
                label=_texts.label("drafter_model"), placeholder=where, scale=3,
                elem_id="add-drafter", **box,
            )  # fmt: skip
            name = gr.Textbox(
                label=_texts.label("name"), placeholder=_texts.label("name_hint"), scale=2,
                elem_id="add-name", **box,
            )  # fmt: skip
        with gr.Row():
            button: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 130}
            check = gr.Button(_texts.label("check"), elem_id="add-check", **button)
            add = gr.Button(_texts.label("add"), variant="primary", elem_id="add-save", **button)
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
    rows = [("target", _target_facts(found)), ("drafter", _drafter_facts(found))]
    drawn = "".join(
        f"<div><dt>{_texts.say(title)}</dt><dd>{escape_html(' · '.join(facts))}</dd></div>"
        for title, facts in rows
    )
    notices: list[tuple[str, Level]] = []
    if found.fit is not None:
        notices += [(reason, "error") for reason in found.fit.reasons]
        notices += [(_texts.say("fits"), "success")] if found.fit.fits else []
    missing: list[tuple[str, Level]] = [(sentence, "warning") for sentence in found.missing]
    html = render_notices([*notices, *_warnings(found), *missing])
    return f'<dl class="add-pair-facts">{drawn}</dl>{html}'


def _warnings(found: "Candidate") -> list[tuple[str, Level]]:
    return [(warning, "warning") for warning in (found.fit.warnings if found.fit else ())]


def _target_facts(found: "Candidate") -> list[str]:
    target = found.target
    if target is None:
        return [found.pair.target.source, _texts.say("not_here")]
    return [
        target.family,
        _texts.say("layers", count=target.num_layers),
        _texts.say("hidden_size", size=target.hidden_size),
        _texts.say("vocabulary", size=format_count(target.vocab_size)),
        _texts.say("context", length=format_count(target.context_length)),
        *([_texts.say("quantised", how=target.quantization)] if target.quantization else []),
        format_bytes(target.size_bytes),
    ]


def _drafter_facts(found: "Candidate") -> list[str]:
    drafter = found.drafter
    if drafter is None:
        source = found.pair.drafter.source if found.pair.drafter else ""
        return [source, _texts.say("not_here")]
    return [
        f"{drafter.generation} ({drafter.format})",
        _texts.say("block_size", size=drafter.block_size),
        _texts.say("attention", kinds=drafter.attention),
        _texts.say("hidden_size", size=drafter.hidden_size),
        _texts.say("taps", layers=", ".join(map(str, drafter.target_layer_ids))),
        _texts.say("mask_token", token=drafter.mask_token_id),
        format_bytes(drafter.size_bytes),
    ]
