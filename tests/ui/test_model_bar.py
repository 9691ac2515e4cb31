"""Every pair is offered with its state; a choice says what to load and how."""

import platform
from contextlib import closing

import gradio as gr
import pytest

from dflash_app.settings import Settings
from dflash_app.ui.model_bar import (
    block_choices,
    build_model_bar,
    drafter_choices,
    first_ready,
    offer_backend,
    offer_pair,
    pair_choices,
    render_pair,
)
from dflash_app.workspace import Workspace, open_workspace
from tests.ui.conftest import StageOpener
from tests.ui.stage import ScriptBackend, one_reply


@pytest.fixture
def workspace(open_stage: StageOpener) -> Workspace:
    return open_stage(one_reply)


def test_ready_pairs_come_first_and_the_others_say_their_state(workspace: Workspace) -> None:
    labels = [label for label, _ in pair_choices(workspace)]
    assert labels[-1] == "Absent pair  ·  needs download"
    assert "Scripted pair" in labels
    assert first_ready(workspace) == "scripted"


def test_a_missing_pair_says_what_is_missing_and_the_cure(workspace: Workspace) -> None:
    html = render_pair(workspace, "absent")
    assert "dflash-app hub pull absent" in html
    assert "9.0 GB" in html
    assert "5.15×" in html


def test_drafters_are_those_of_the_target_and_none(workspace: Workspace) -> None:
    assert [value for _, value in drafter_choices(workspace, "scripted")] == [
        "scripted", "second", "none",
    ]  # fmt: skip
    assert [value for _, value in drafter_choices(workspace, "lonely")] == ["none"]
    assert [value for _, value in drafter_choices(workspace, "unknown")] == ["none"]


def test_block_sizes_above_the_drafters_own_are_called_experiments(workspace: Workspace) -> None:
    choices = block_choices(workspace, "scripted")
    assert [value for _, value in choices[:4]] == ["auto", "2", "3", "4"]
    assert choices[-1] == ("64 (experiment)", "64")
    assert all("experiment" in label for label, _ in choices[4:])
    assert block_choices(workspace, "scripted")[0][0] == "auto (4)"
    assert block_choices(workspace, "second")[0][0] == "auto"


def test_one_backend_needs_no_box(workspace: Workspace) -> None:
    with gr.Blocks():
        assert not build_model_bar(workspace).backend.visible


def test_a_pair_offers_its_backends_and_keeps_the_one_that_was_chosen(workspace: Workspace) -> None:
    workspace._backends |= {"other": ScriptBackend(one_reply, "other")}
    with gr.Blocks():
        bar = build_model_bar(workspace)
    assert bar.backend.visible
    assert bar.backend.value == "script"  # the row of the pair names no other
    assert _offered(workspace, "absent", None) == (["script", "other"], "script")
    assert _offered(workspace, "absent", "other") == (["script", "other"], "other")
    assert _offered(workspace, "scripted", "other") == (["script"], "script")
    assert _offered(workspace, "unknown", "other") == (["auto"], "auto")


def _offered(workspace: Workspace, pair: str, chosen: str | None) -> tuple[list[str], str]:
    backend = offer_pair(workspace, pair, chosen)[2]
    return [value for _, value in backend.choices], backend.value


def test_precisions_and_devices_are_those_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    for backend, quantizations, device in (
        ("mlx", ["4bit", "8bit"], "gpu"),
        ("torch", ["nf4", "int8"], "mps"),
    ):
        precision, devices = offer_backend(backend)
        assert [value for _, value in precision.choices][-2:] == quantizations
        assert devices.choices[-1] == ("Apple GPU", device)
        assert (precision.value, devices.value, devices.visible) == ("auto", "auto", True)
    assert [value for _, value in offer_backend("script")[0].choices][-1] == "float16"


def test_a_pair_that_is_here_says_what_memory_it_needs_and_why(settings: Settings) -> None:
    with closing(open_workspace(settings)) as workspace:
        html = render_pair(workspace, "embedded")
    assert "needs about <b>" in html
    assert "in bfloat16 at 2,048 tokens" in html
    assert 'title="target weights ' in html
    assert "reserve for a step" in html
