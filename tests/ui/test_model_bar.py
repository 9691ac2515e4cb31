"""Every pair is offered with its state; a choice says what to load and how."""

import os

import pytest

from dflash_app.ui.model_bar import (
    Choice,
    block_choices,
    drafter_choices,
    first_ready,
    page_threads,
    pair_choices,
    read_choice,
    render_pair,
)
from dflash_app.workspace import Workspace
from tests.ui.conftest import StageOpener
from tests.ui.stage import bar, one_reply


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
    assert "hf download some/target" in html
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


def test_a_choice_is_read_from_the_widgets() -> None:
    assert read_choice(bar()) == Choice("scripted", "dflash", None, None, None)
    chosen = read_choice(["a", "b", "8", "bfloat16", "cpu"])
    assert chosen == Choice("b", "dflash", 8, "bfloat16", "cpu")
    for bits in ("nf4", "int8"):
        options = read_choice(["a", "b", "auto", bits, "auto"]).options()
        assert (options.quantization, options.dtype) == (bits, None)
    assert read_choice(["a", "none", "8", "auto", "auto"]) == Choice("a", "ar", None, None, None)


def test_a_core_is_left_to_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 1), (16, 15)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert page_threads() == threads
        assert read_choice(bar()).options().num_threads == threads
