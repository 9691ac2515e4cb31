"""Presets set what they say; a pair offers what it has."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from dflash_app.registry.pair import Sampling
from dflash_app.ui.presets import (
    PRESETS,
    find_preset,
    matching_preset,
    offer_pair_settings,
    slider_values,
)
from dflash_app.ui.sampling import DRAWING
from dflash_app.workspace import Workspace
from tests.ui.conftest import StageOpener
from tests.ui.stage import one_reply

TEMPLATE = "{% if enable_thinking is false %}<think></think>{% endif %}"
CONFIG = '{"do_sample": true, "temperature": 0.6, "top_p": 0.95, "top_k": 20}'


def offered(workspace: Workspace, preset: str, thinking: str) -> tuple[Any, Any, Sequence[Any]]:
    preset_box, thinking_box, *sliders = offer_pair_settings(
        workspace, "scripted", preset, thinking
    )
    return preset_box, thinking_box, sliders


def values(choices: Sequence[tuple[str, str]]) -> list[str]:
    return [value for _, value in choices]


def test_every_preset_is_in_the_sliders_range_and_greedy_draws_nothing() -> None:
    assert slider_values(PRESETS["greedy"]) == [0.0, 1.0, 0, 0.0, 1.0]
    for sampling in PRESETS.values():
        assert 0 <= sampling.temperature <= 2


def test_a_pair_offers_its_own_sampling_and_what_its_template_has(open_stage: StageOpener) -> None:
    workspace = open_stage(one_reply)
    preset, thinking, sliders = offered(workspace, "greedy", "on")
    assert "recommended" not in values(preset["choices"])
    assert "value" not in preset  # it stays, or the user's next choice would be lost
    assert (values(thinking.choices), thinking.value) == (["auto"], "auto")
    assert all(str(each) == str(gr.skip()) for each in sliders)
    folder = workspace.settings.home / "target"
    (folder / "generation_config.json").write_text(CONFIG)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    preset, thinking, sliders = offered(workspace, "recommended", "on")
    assert "recommended" in values(preset["choices"])
    assert values(thinking["choices"]) == ["auto", "on", "off"]
    assert "value" not in preset | thinking
    assert sliders == [0.6, 0.95, 20, 0.0, 1.0]
    assert find_preset(workspace, "recommended", "scripted") == Sampling(
        temperature=0.6, top_p=0.95, top_k=20
    )


def test_a_recommendation_gives_way_where_the_next_pair_has_none(open_stage: StageOpener) -> None:
    preset, _, sliders = offered(open_stage(one_reply), "recommended", "auto")
    assert preset.value == "own"
    assert all(str(each) == str(gr.skip()) for each in sliders)


def test_ones_own_values_are_no_preset(open_stage: StageOpener) -> None:
    workspace = open_stage(one_reply)
    assert find_preset(workspace, "own", "scripted") is None
    assert find_preset(workspace, "recommended", "no such pair") is None
    assert find_preset(workspace, "creative", None) == PRESETS["creative"]


def test_values_that_a_preset_sets_are_called_by_its_name(open_stage: StageOpener) -> None:
    workspace = open_stage(one_reply)
    (workspace.settings.home / "target" / "generation_config.json").write_text(CONFIG)

    def named(values: Sequence[float], pair: str | None = "scripted") -> str:
        return matching_preset(workspace, dict(zip(DRAWING, values, strict=True)), pair)

    for name, sampling in PRESETS.items():
        assert named(slider_values(sampling)) == name
    assert named([0.6, 0.95, 20, 0.0, 1.0]) == "recommended"
    assert named([0.6, 0.95, 20, 0.0, 1.0], None) == "own"
    assert named([0.7, 0.95, 0, 0.0, 1.1]) == "own"
    assert matching_preset(workspace, {"temperature": 0.7}, "scripted") == "own"
