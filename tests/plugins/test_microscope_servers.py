"""A run on a server under the microscope: no steps, an honest sentence, and the server's counts."""

from dataclasses import replace
from typing import Any

import pytest

from dflash_app.events import DecodeEvent
from dflash_app.workspace import Workspace
from tests.fakes import server_script_of
from tests.plugins.test_microscope import Microscope
from tests.ui.conftest import StageOpener
from tests.ui.stage import COUNTS, add_server, one_reply, one_served_reply

SERVED: dict[str, Any] = {
    "pair": "served", "backend": "remote", "device": "gpu-box:8000", "dtype": "server",
    "path": "vLLM 0.32.0", "policy": None, "block_size": None, "trained_block_size": None,
}  # fmt: skip


@pytest.fixture
def microscope(open_stage: StageOpener) -> Microscope:
    workspace: Workspace = add_server(open_stage(one_reply), one_served_reply)
    return Microscope(workspace)


def run_of(counts: Any = COUNTS) -> list[DecodeEvent]:
    return server_script_of((1,), (2, 3, 4), (5, 6, 7), counts=counts)


def test_it_says_what_a_server_does_not_tell_and_shows_what_it_counted(
    microscope: Microscope,
) -> None:
    shown, opened = microscope.open(microscope.add(run_of(), **SERVED))
    summary = shown["microscope-summary"]
    assert "not which steps made them or which of them were drafted" in summary
    assert "vLLM, this request" in summary
    assert "Drafts accepted</dt><dd>4" in summary
    assert "Decoding, by the server&#x27;s clock</dt><dd>400 ms" in summary
    assert shown["microscope-stepper"].visible is False
    assert "after the first token, as it arrived" in shown["microscope-time"]
    assert opened.run.steps == ()
    assert opened.run.token_ids == (1, 2, 3, 4, 5, 6, 7)


def test_acceptance_by_position_is_drawn_from_the_servers_counts(microscope: Microscope) -> None:
    shown, _ = microscope.open(microscope.add(run_of(), **SERVED))
    (bars,) = shown["chart-scope-positions"].data
    assert list(bars.y) == [1.0, 1.0, 0.0]
    (lengths,) = shown["chart-scope-lengths"].data
    assert list(lengths.y) == [0, 0, 2, 0]
    (arrived,) = shown["chart-scope-along"].data
    assert (list(arrived.x), list(arrived.y)) == ([0.5, 0.75, 1.0], [1, 4, 7])
    assert not shown["chart-scope-time"].data


def test_a_count_of_the_whole_server_is_drawn_and_marked_but_not_judged(
    microscope: Microscope,
) -> None:
    shared = replace(COUNTS, shared=True, source="vLLM /metrics")
    shown, opened = microscope.open(microscope.add(run_of(shared), **SERVED))
    assert "other traffic may be in it" in shown["microscope-summary"]
    assert list(shown["chart-scope-positions"].data[0].y) == [1.0, 1.0, 0.0]
    assert opened.run.profile.num_drafting == 0


def test_its_speed_is_held_against_plain_decoding_on_the_same_server(
    microscope: Microscope,
) -> None:
    plain = microscope.add(
        server_script_of(*((token_id,) for token_id in range(8))), **SERVED, mode="ar"
    )
    shown, _ = microscope.open(microscope.add(run_of(), **SERVED))
    said = shown["microscope-why"]
    assert "measured at the client. A server ran it and does not tell its steps" in said
    assert "a step commits 3.00 tokens" in said
    assert f"the nearest in time is run {plain}), so this run is 3.00 times as fast" in said


def test_a_run_on_a_server_that_counts_nothing_is_still_shown(microscope: Microscope) -> None:
    shown, _ = microscope.open(microscope.add(run_of(None), **SERVED))
    assert "Counted by" not in shown["microscope-summary"]
    assert shown["microscope-step"] == ""
