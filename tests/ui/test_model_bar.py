"""Every pair is offered with its state; a choice says what to load and how."""

import platform
import re
from contextlib import closing
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from dflash_app.settings import PublicLimits, Settings
from dflash_app.ui import pair_facts
from dflash_app.ui.backend_choices import (
    backend_choices,
    device_choices,
    precision_choices,
    texts,
)
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.model_bar import (
    block_choices,
    build_model_bar,
    drafter_choices,
    first_ready,
    offer_backend,
    offer_pair,
    pair_choices,
    refresh_model_bar,
)
from dflash_app.ui.pair_facts import render_pair
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace, open_workspace
from tests.ui.conftest import StageOpener
from tests.ui.stage import ScriptBackend, add_server, one_reply, one_served_reply

STAYS = "no value is sent: the box keeps its own"


@pytest.fixture
def workspace(open_stage: StageOpener) -> Workspace:
    return open_stage(one_reply)


def test_ready_pairs_come_first_and_the_others_say_their_state(workspace: Workspace) -> None:
    labels = [label for label, _ in pair_choices(workspace)]
    assert labels[-1] == "Absent pair  ·  needs download"
    assert "Scripted pair" in labels
    assert first_ready(workspace) == "scripted"


def test_a_missing_pair_says_so_and_leads_to_its_download(workspace: Workspace) -> None:
    html = render_pair(workspace, "absent")
    assert 'class="open-hub"' in html
    assert "hub pull" not in html  # the page has a button for that
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
    assert _offered(workspace, "absent", "other") == (["script", "other"], STAYS)
    assert _offered(workspace, "scripted", "other") == (["script"], "script")
    assert _offered(workspace, "unknown", "other") == (["auto"], "auto")


def _offered(workspace: Workspace, pair: str, chosen: str | None) -> tuple[list[str], str]:
    backend = offer_pair(workspace, pair, chosen)[2]
    return [value for _, value in _sent(backend)["choices"]], _sent(backend).get("value", STAYS)


def _sent(box: Any) -> dict[str, Any]:
    """What an update of a box changes."""
    return box if isinstance(box, dict) else {"choices": box.choices, "value": box.value}


def test_a_page_that_is_loaded_keeps_every_value_that_can_stay(workspace: Workspace) -> None:
    workspace._backends |= {"other": ScriptBackend(one_reply, "other")}
    with gr.Blocks():
        bar = build_model_bar(workspace)

    def values_sent(*values: str) -> dict[str, str]:
        update = refresh_model_bar(bar, workspace, values)
        boxes = (bar.pair, bar.drafter, bar.block_size, bar.backend, bar.precision, bar.device)
        sent = {str(box.elem_id): _sent(update[box]) for box in boxes}
        return {name: each["value"] for name, each in sent.items() if "value" in each}

    assert values_sent("scripted", "second", "3", "float16", "cpu", "script") == {}
    assert values_sent("scripted", "none", "3", "float16", "cpu", "script") == {}
    assert values_sent("absent", "absent", "auto", "auto", "auto", "other") == {}
    assert values_sent("scripted", "gone since", "3", "float16", "cpu", "other") == {
        "drafter": "scripted", "block-size": "auto", "backend": "script", "precision": "auto",
        "device": "auto",
    }  # fmt: skip
    assert values_sent("gone since", "second", "3", "auto", "auto", "script") == {
        "pair": "scripted", "drafter": "scripted", "block-size": "auto",
    }  # fmt: skip


def test_the_events_of_the_bar_share_a_queue_so_that_their_answers_keep_the_order(
    workspace: Workspace,
) -> None:
    blocks = build_page(workspace, LiveRuns())
    names = {"refresh", "choose_pair", "choose_drafter", "choose_how", "offer_backend"}
    queues = {fn.name: fn.concurrency_id for fn in blocks.fns.values() if fn.name in names}
    assert queues == dict.fromkeys(names, "model-bar")


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


def megabytes(html: str) -> float:
    found = re.search(r"needs about <b>([\d.]+) MB</b>", html)
    assert found, html
    return float(found[1])


def test_a_pair_that_is_here_says_what_memory_it_needs_as_the_bar_is_set_and_why(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_facts, "device_choices", lambda _: [("auto", "auto"), ("CPU", "cpu")])
    with closing(open_workspace(settings)) as workspace:
        html = render_pair(workspace, "embedded")
        halved = render_pair(workspace, "embedded", "torch", "bfloat16", "cpu")
        quantised = render_pair(workspace, "embedded", "torch", "nf4", "cpu")
    assert "needs about <b>" in html
    assert "in float32 at 2,048 tokens" in html  # what a CPU takes by itself
    assert "in bfloat16 at 2,048 tokens" in halved
    assert "in nf4 at 2,048 tokens" in quantised
    assert megabytes(html) > 1.5 * megabytes(halved)
    assert megabytes(quantised) < megabytes(html)
    assert 'title="target weights ' in html
    assert "reserve for a step" in html


def test_a_server_is_offered_and_what_is_its_own_affair_is_not_asked(workspace: Workspace) -> None:
    add_server(workspace, one_served_reply)
    assert ("Served pair", "served") in pair_choices(workspace)
    assert drafter_choices(workspace, "served")[0] == ("org/T, on a server", "served")
    assert [value for _, value in block_choices(workspace, "served")] == ["auto"]
    ((title, name),) = backend_choices(workspace, "served")
    assert (str(title), name) == (str(texts.label("server")), "remote")
    assert [value for _, value in precision_choices("remote")] == ["auto"]
    assert [value for _, value in device_choices("remote")] == ["auto"]
    html = render_pair(workspace, "served")
    assert "org/T at http://gpu-box:8000/v1" in html
    assert "GB" not in html
    assert '<span class="badge served">on server</span>' in html
    assert first_ready(workspace) == "scripted"


def test_strangers_are_not_told_where_a_server_stands(workspace: Workspace) -> None:
    add_server(workspace, one_served_reply)
    workspace.settings = replace(workspace.settings, public=PublicLimits())
    html = render_pair(workspace, "served")
    assert "org/T" in html
    assert "gpu-box" not in html
