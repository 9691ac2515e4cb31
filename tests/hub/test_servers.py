"""A pair on a server: ready as it is, with nothing to download, check or delete."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from dflash_app.cli import main
from dflash_app.errors import PairNotReady
from dflash_app.hub.cache import is_here, pair_state, ready_folders, resolve
from dflash_app.hub.fit import Device, fit_pair
from dflash_app.hub.recommend import fits_of, recommend
from dflash_app.registry.custom import new_pair, read_server
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace

SERVER = read_server("http://gpu-box:8000/v1", "org/T")
PAIR = new_pair("served", SERVER, SERVER, title="Served")
DEVICE = Device("cuda:0", 10**12)

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def workspace(settings: Settings) -> Iterator[Workspace]:
    with closing(open_workspace(settings)) as opened:
        opened.add_pair(PAIR)
        yield opened


def test_it_is_ready_and_none_of_it_is_here() -> None:
    state = pair_state(PAIR)
    assert (state.status, state.reason, state.target_dir, state.drafter_dir) == (
        "ready",
        None,
        None,
        None,
    )
    assert not is_here(SERVER)
    for ask in (lambda: resolve(SERVER), lambda: ready_folders(PAIR, drafting=True)):
        with pytest.raises(PairNotReady, match="org/T at http://gpu-box:8000/v1 runs on a server"):
            ask()


def test_the_hub_tells_that_it_is_on_a_server_and_does_nothing_to_it(workspace: Workspace) -> None:
    hub = workspace.hub
    standing = hub.standing(PAIR, workspace.state("served"))
    assert (standing.status, standing.here_bytes, standing.weights_bytes) == ("on server", 0, None)
    for act in (hub.download, hub.plan_removal, lambda name: list(hub.verify(name))):
        with pytest.raises(PairNotReady, match=r"runs on a server .* nothing here to"):
            act("served")
    assert hub.drifts("served") == ()
    assert workspace.revisions("served") == (None, None)


def test_it_is_never_recommended_and_its_memory_is_not_this_machines(workspace: Workspace) -> None:
    with pytest.raises(PairNotReady, match="takes no memory of this machine"):
        fit_pair(PAIR, [DEVICE])
    standings = [workspace.hub.standing(PAIR, workspace.state("served"))]
    fits = fits_of(standings, [DEVICE], online=False)
    assert fits == {}
    advice = recommend(standings, fits, "chat")
    assert advice.ranked == ()
    (left,) = advice.left_out
    assert (left.cause, left.reason) == ("on server", "It runs on a server, not on this machine.")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["hub", "pull", "served"], "there is nothing here to download"),
        (["hub", "verify", "served"], "there is nothing here to check"),
        (["hub", "rm", "served", "--yes"], "there is nothing here to delete"),
        (["hub", "fit", "served", "--offline"], "takes no memory of this machine"),
    ],
)
def test_commands_about_files_say_that_there_are_none(
    workspace: Workspace, command: list[str], said: str, capsys: Capture
) -> None:
    workspace.close()
    assert main(command) == 1
    assert said in capsys.readouterr().err


def test_commands_list_and_show_it(workspace: Workspace, capsys: Capture) -> None:
    workspace.close()
    assert main(["hub", "ls"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("served")]
    assert "on server" in row
    assert main(["hub", "show", "served"]) == 0
    told = capsys.readouterr().out
    assert "target: org/T at http://gpu-box:8000/v1" in told
    assert "on disk: nothing, it runs on a server" in told
    assert main(["pairs", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["pairs"]
    (row,) = [row for row in rows if row["name"] == "served"]
    assert (row["state"], row["target"]["server"]) == ("ready", "http://gpu-box:8000/v1")
    assert main(["inspect", "served"]) == 1
    assert "runs on a server" in capsys.readouterr().err
    assert main(["pairs", "remove", "served"]) == 1
    assert "`dflash-app servers rm served` removes it, and its key" in capsys.readouterr().err
