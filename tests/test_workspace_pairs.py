"""Pairs are added to the user's registry file and taken out of it."""

import threading

import pytest

from dflash_app.errors import (
    PairNotReady,
    RegistryError,
    UnknownPair,
)
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.workspaces import home_with_pairs, workspace

__all__ = ["home_with_pairs", "workspace"]


def new_pair(name: str = "mine", repo: str = "org/T") -> Pair:
    target, drafter = ModelRef(repo=repo), ModelRef(repo="org/D")
    return Pair(name=name, title="Mine", family="unknown", target=target, drafter=drafter)


def test_an_added_pair_is_known_at_once_and_after_the_next_start(
    workspace: Workspace, home_with_pairs: Settings
) -> None:
    first = workspace.loaded("one")
    workspace.add_pair(new_pair())
    assert workspace.registry.get("mine") == new_pair()
    assert workspace.state("mine").status == "needs download"
    assert "dflash-app hub pull mine" in str(workspace.state("mine").reason)
    assert workspace.loaded("one") is first
    again = open_workspace(home_with_pairs)
    assert again.registry.get("mine") == new_pair()
    again.close()


@pytest.mark.parametrize("taken", ["one", "embedded", "mine"])
def test_a_name_that_is_taken_is_refused_and_nothing_is_written(
    workspace: Workspace, home_with_pairs: Settings, taken: str
) -> None:
    workspace.add_pair(new_pair())
    before = home_with_pairs.user_registry.read_text()
    with pytest.raises(RegistryError, match=f"{taken}' is already taken in .*, line"):
        workspace.add_pair(new_pair(taken))
    assert home_with_pairs.user_registry.read_text() == before


def test_what_another_process_added_meanwhile_is_kept(
    workspace: Workspace, home_with_pairs: Settings
) -> None:
    other = open_workspace(home_with_pairs)
    other.add_pair(new_pair("theirs"))
    other.close()
    with pytest.raises(RegistryError, match="already taken"):
        workspace.add_pair(new_pair("theirs"))
    workspace.add_pair(new_pair())
    assert {"theirs", "mine", "one"} <= {pair.name for pair in workspace.pairs()}


def test_threads_that_add_at_once_lose_no_pair(workspace: Workspace) -> None:
    names = [f"mine-{index}" for index in range(8)]
    threads = [
        threading.Thread(target=workspace.add_pair, args=(new_pair(name),)) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(names) <= {pair.name for pair in workspace.pairs()}
    assert workspace.registry.problems == ()


def test_a_user_s_pair_can_be_removed_and_no_other(workspace: Workspace) -> None:
    workspace.add_pair(new_pair())
    workspace.remove_pair("mine")
    with pytest.raises(UnknownPair):
        workspace.registry.get("mine")
    with pytest.raises(UnknownPair):
        workspace.remove_pair("mine")
    with pytest.raises(RegistryError, match="not your own registry file"):
        workspace.remove_pair("embedded")
    assert workspace.registry.get("embedded").name == "embedded"


def test_a_pair_in_memory_or_on_its_way_there_is_not_removed(workspace: Workspace) -> None:
    workspace.loaded("one")
    with pytest.raises(PairNotReady, match="in use: choose another pair first"):
        workspace.remove_pair("one")
    holding, done = threading.Event(), threading.Event()

    def load() -> None:
        with workspace.not_importing():  # as `loaded` does while a model is read
            holding.set()
            done.wait(10)

    thread = threading.Thread(target=load)
    thread.start()
    holding.wait(10)
    with pytest.raises(PairNotReady, match="being loaded just now"):
        workspace.remove_pair("two")
    done.set()
    thread.join()
    workspace.remove_pair("two")


def test_a_broken_registry_file_is_left_as_it_is(
    workspace: Workspace, home_with_pairs: Settings
) -> None:
    home_with_pairs.user_registry.write_text("pairs: [")
    with pytest.raises(RegistryError, match="Nothing was saved"):
        workspace.add_pair(new_pair())
    assert home_with_pairs.user_registry.read_text() == "pairs: ["
    assert workspace.registry.get("embedded").name == "embedded"
