"""The serving panel's events, without a browser: what it plans, and what it refuses."""

import html
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dflash_app.registry.pair import Pair
from dflash_app.serving.gpus import find_gpu, gpus_here, usual_gpu
from dflash_app.serving.layout import Machines
from dflash_app.serving.planner import plan_pair
from dflash_app.serving.process import Standing
from dflash_app.settings import PublicLimits, Settings
from dflash_app.ui.hub_chosen import Chosen
from dflash_app.ui.hub_serve_text import render_plan, render_standing
from dflash_app.ui.live import LiveRuns
from dflash_app.ui.shell import build_page
from dflash_app.workspace import Workspace, open_workspace
from tests.ui.stage import find_handler, texts

EMBEDDED = Chosen("embedded")
WISH = ("vllm", "cpu", 1, 1, 0, False)


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    opened = open_workspace(settings)
    yield opened
    opened.close()


def wish(workspace: Workspace, *values: object, local: bool = True) -> dict[str, object]:
    """What the panel shows for values of its boxes, the form first."""
    blocks = build_page(workspace, LiveRuns(), local_folders=local)
    found = texts(find_handler(blocks, "Serving.on_wish")(EMBEDDED, *values))
    return {key: getattr(value, "value", value) for key, value in found.items()}


def test_the_shipped_pairs_plan_is_shown_with_its_reasons(workspace: Workspace) -> None:
    shown = wish(workspace, "command", *WISH)
    assert "vllm.entrypoints.openai.api_server" in str(shown["serve-command"])
    assert "#" not in str(shown["serve-command"])
    assert "<code>--speculative-config</code>" in str(shown["serve-told"])
    twin = wish(workspace, "compose", *WISH[:-1], True)
    assert "vllm-ar:" in str(twin["serve-command"])


def test_where_no_kind_of_gpu_is_chosen_the_panel_says_what_it_plans_for(
    workspace: Workspace,
) -> None:
    shown = wish(workspace, "command", "vllm", "usual", 1, 1, 0, False)
    _, told = usual_gpu(workspace.registry.get("embedded"), gpus_here())
    assert told in html.unescape(str(shown["serve-told"]))
    assert shown["serve-command"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (("sglang", *WISH[1:]), "CUDA and NPU devices only"),
        (("vllm", "TPU", 1, 1, 0, False), "is not known"),
        (("vllm", "H100-80", None, 1, 0, False), "Give 1 to 16 GPUs"),
        (("vllm", "H100-80", float("nan"), 1, 0, False), "Give 1 to 16 GPUs"),
        (("vllm", "H100-80", "2; reboot", 1, 0, False), "Give 1 to 16 GPUs"),
        (("vllm", "H100-80", 1, 1, 70_000, False), "Give a port"),
    ],
)
def test_what_cannot_be_planned_is_a_sentence_and_no_command(
    workspace: Workspace, values: tuple[object, ...], sentence: str
) -> None:
    shown = wish(workspace, "command", *values)
    assert sentence in str(shown["serve-told"])
    assert shown["serve-command"] == ""


def test_where_strangers_reach_the_page_nothing_is_planned_or_started(
    workspace: Workspace,
) -> None:
    shown = wish(workspace, "command", *WISH, local=False)
    assert "to its own machine alone" in str(shown["serve-told"])
    assert "embedded/target" not in str(shown)
    blocks = build_page(workspace, LiveRuns(), local_folders=False)
    told = texts(find_handler(blocks, "LocalActing.on_start")(EMBEDDED, *WISH))
    assert "to its own machine alone" in str(told["serve-notice"])
    told = texts(find_handler(blocks, "LocalActing.on_stop")())
    assert "to its own machine alone" in str(told["serve-notice"])
    assert not (workspace.settings.home / "serving").exists()


def test_a_public_page_has_no_such_panel(settings: Settings) -> None:
    workspace = open_workspace(replace(settings, public=PublicLimits()))
    blocks = build_page(workspace, LiveRuns())
    names = {getattr(each.fn, "__qualname__", "") for each in blocks.fns.values()}
    workspace.close()
    assert not [name for name in names if name.startswith(("Serving.", "LocalActing."))]


def test_a_log_and_a_note_are_escaped(workspace: Workspace) -> None:
    pair: Pair = workspace.registry.get("embedded")
    plan = plan_pair(pair, "vllm", Machines(find_gpu("cpu")), online=False)
    drawn = render_standing(Standing("ready", plan, None, ("<img src=x>",)))
    assert "<img" not in drawn
    assert "<script>" not in render_plan(replace(plan, notes=("<script>",)))


@pytest.mark.parametrize(
    ("state", "status", "stopped", "said"),
    [
        ("starting", None, False, "is starting embedded"),
        ("ready", None, False, "vLLM serves embedded at http://127.0.0.1:8000/v1"),
        ("ended", 3, False, "ended with status 3"),
        ("ended", 143, True, "was stopped"),
    ],
)
def test_a_servers_state_is_said(
    workspace: Workspace, state: str, status: int | None, stopped: bool, said: str
) -> None:
    plan = plan_pair(
        workspace.registry.get("embedded"), "vllm", Machines(find_gpu("cpu")), online=False
    )
    standing = Standing(state, plan, status, ())  # type: ignore[arg-type]
    assert said in render_standing(standing, stopped=stopped)
    assert render_standing(Standing("none", None, None, ())) == ""
