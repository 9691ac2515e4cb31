"""Sampling presets, and what of them and of thinking the chosen pair has."""

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.context import Context

from dflash_app.hub.target_files import read_chat_template, read_sampling
from dflash_app.registry.pair import Pair, Sampling
from dflash_app.ui.model_bar import FOLLOWING, offer_choices
from dflash_app.ui.pair_facts import find_pair
from dflash_app.ui.sampling import DRAWING, SamplingControls, preset_choices, thinking_labels
from dflash_app.ui.shell import Page
from dflash_app.ui.thinking import thinking_choices
from dflash_app.workspace import Workspace

PRESETS = {
    "greedy": Sampling(temperature=0.0),
    "balanced": Sampling(temperature=0.7, top_p=0.95),
    "creative": Sampling(temperature=1.0, min_p=0.05),
}
_OWN = "own"


def connect_presets(controls: SamplingControls, page: Page) -> None:
    """A preset sets the sliders, a slider makes the preset one's own, the pair offers its own."""
    workspace, pair_box = page.workspace, page.bar.pair
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def choose(preset: str, pair: str) -> list[Any]:
        sampling = find_preset(workspace, preset, pair)
        return slider_values(sampling) if sampling else [gr.skip()] * len(controls.drawing)

    def offer(pair: str, preset: str, thinking: str) -> list[Any]:
        return offer_pair_settings(workspace, pair, preset, thinking)

    controls.preset.input(choose, [controls.preset, pair_box], list(controls.drawing), **quiet)
    gr.on(
        [slider.input for slider in controls.drawing],  # type: ignore[attr-defined]
        None, js=f"() => '{_OWN}'", outputs=controls.preset, **quiet,
    )  # fmt: skip
    follows = [controls.preset, controls.thinking, *controls.drawing]
    asked = [pair_box, controls.preset, controls.thinking]
    pair_box.change(offer, asked, follows, **FOLLOWING)
    blocks: Any = Context.root_block
    if blocks is not None:
        blocks.load(offer, asked, follows, **quiet)


def offer_pair_settings(
    workspace: Workspace, name: str | None, preset: str | None, thinking: str | None
) -> list[Any]:
    """What preset, thinking and the sliders become once a pair is chosen.

    Args:
        workspace: knows the pairs.
        name: of the pair.
        preset: chosen before; the pair's own gives way to the new pair's own.
        thinking: chosen before; it stays where the new pair's template has it.
    """
    pair = find_pair(workspace, name)
    own = recommended_sampling(workspace, pair) if pair else None
    choices = thinking_of(workspace, pair) if pair else []
    sliders = [gr.skip()] * 5
    recommended = preset == "recommended"
    if recommended and own:
        sliders = slider_values(own)
    presets, thoughts = preset_choices(recommended=own is not None), thinking_labels(choices)
    return [
        offer_choices(presets, _OWN, stays=not recommended or own is not None),
        offer_choices(thoughts, "auto", stays=thinking in ("auto", *choices)),
        *sliders,
    ]


def find_preset(workspace: Workspace, preset: str, name: str | None) -> Sampling | None:
    """The values of a preset; None for one's own."""
    pair = find_pair(workspace, name)
    if preset == "recommended":
        return recommended_sampling(workspace, pair) if pair else None
    return PRESETS.get(preset)


def matching_preset(workspace: Workspace, settings: Mapping[str, Any], name: str | None) -> str:
    """The preset that sets the sliders to these values; one's own where none does.

    Args:
        workspace: knows the pairs.
        settings: values by the names of `sampling.NAMES`.
        name: of the pair, which may have a preset of its own.
    """
    values = [settings.get(each) for each in DRAWING]
    for preset in [*PRESETS, "recommended"]:
        sampling = find_preset(workspace, preset, name)
        if sampling is not None and slider_values(sampling) == values:
            return preset
    return _OWN


def recommended_sampling(workspace: Workspace, pair: Pair) -> Sampling | None:
    """The registry's, else what the target's own generation_config.json says where it is here."""
    if pair.sampling is not None:
        return pair.sampling
    folder = workspace.state(pair.name).target_dir
    return read_sampling(folder) if folder else None


def template_of(workspace: Workspace, pair: Pair) -> str | None:
    """The target's chat template; None where it is not on this machine, "" where it has none."""
    folder = workspace.state(pair.name).target_dir
    return (read_chat_template(folder) or "") if folder else None


def thinking_of(workspace: Workspace, pair: Pair) -> list[str]:
    """How the pair's target can be told to think."""
    return thinking_choices(template_of(workspace, pair), pair.thinking_levels)


def slider_values(sampling: Sampling) -> list[float]:
    """Values of `SamplingControls.drawing`."""
    cuts = [sampling.top_p, sampling.top_k, sampling.min_p]
    return [sampling.temperature, *cuts, sampling.repetition_penalty]
