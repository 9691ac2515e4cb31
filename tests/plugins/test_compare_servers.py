"""A race of lanes on servers: one after the other, its verdict by tokens or text, and said so."""

from importlib import import_module

import pytest

from dflash_app.engine.protocol import LoadOptions
from dflash_app.events import TextDelta
from dflash_app.race import LaneSpec, RaceLane
from dflash_app.workspace import Workspace
from tests.fakes import Script, ScriptedServerPair, ask, server_script_of
from tests.plugins.test_compare import race, settings
from tests.ui.conftest import StageOpener
from tests.ui.stage import COUNTS, add_server, bar, last, one_reply, texts, two_served_lanes

SERVED = settings(bar("served", "served"))


@pytest.fixture
def workspace(open_stage: StageOpener) -> Workspace:
    return add_server(open_stage(one_reply), two_served_lanes)


def outcome_of(workspace: Workspace, *scripts: Script) -> str:
    """What is said of a race whose lanes play these."""
    pair = ScriptedServerPair(scripts)
    workspace.unload()
    workspace._backends["remote"].make = lambda: pair  # type: ignore[attr-defined]
    return str(last(race(workspace, values=SERVED))["race-outcome"])


def test_lanes_wait_for_each_other_and_end_with_speedup_and_identical(
    workspace: Workspace,
) -> None:
    looks = [texts(update) for update in race(workspace, values=SERVED)]
    shown = {key: value for look in looks for key, value in look.items()}
    assert "Client speed" in shown["race-cards-ar"]
    assert "4.0 tok/s" in shown["race-cards-ar"]
    assert "12.0 tok/s" in shown["race-cards-dflash"]
    assert "3.00×" in shown["race-outcome"]
    assert "✓ identical" in shown["race-outcome"]
    assert "target steps saved" not in shown["race-outcome"]
    assert "Times were measured at the client" in shown["race-status"]
    runs = workspace.store.list_runs()
    assert {run.start.mode for run in runs} == {"ar", "dflash"}
    assert len({run.start.group_id for run in runs}) == 1


@pytest.mark.parametrize(("num_events", "waits"), [(0, False), (1, True)])
def test_the_page_says_which_lane_waits(workspace: Workspace, num_events: int, waits: bool) -> None:
    pair, requests = two_served_lanes(), [ask(mode="ar"), ask()]
    assert workspace.plugins.hook.register_tabs()
    tab = import_module("dflash_plugins.compare.tab")
    view = tab.RaceView([LaneSpec("served", LoadOptions(), each) for each in requests])
    view.know([RaceLane(pair, each) for each in requests])
    view.lanes[0].add(pair.scripts[0][:num_events])
    plain, drafting = view.render().split('class="lane"')[1:]
    assert "Waits" not in plain
    assert ("Waits: lanes on servers run one after the other" in drafting) is waits


def test_tokens_that_differ_are_told_without_a_margin(workspace: Workspace) -> None:
    drafted = server_script_of((1,), (2, 9), counts=COUNTS)
    said = outcome_of(workspace, server_script_of((1,), (2,), (3,)), drafted)
    assert "≠ differs" in said
    assert "differ from token 3 on: &#x27;d&#x27; against &#x27;j&#x27;" in said
    assert "whether that is a near tie is not known" in said


def test_texts_are_compared_where_tokens_are_not_told(workspace: Workspace) -> None:
    plain = server_script_of((1,), (2,), tell_ids=False)
    same = outcome_of(workspace, plain, server_script_of((1, 2)))
    assert "✓ identical" in same
    assert "Identical as text: 2 characters." in same
    other = outcome_of(workspace, plain, server_script_of((1, 3), tell_ids=False))
    assert "The texts differ from character 2 on: &#x27;c&#x27; against &#x27;d&#x27;." in other


def test_what_a_server_writes_is_inert(workspace: Workspace) -> None:
    evil = "<img src=x onerror=alert(1)>"
    lanes = [[TextDelta(evil), *server_script_of((1,), (token_id,))] for token_id in (2, 3)]
    workspace._backends["remote"].make = lambda: ScriptedServerPair(lanes)  # type: ignore[attr-defined]
    shown = last(race(workspace, values=SERVED))
    assert "<img" not in "".join(str(value) for value in shown.values())
