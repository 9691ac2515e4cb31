"""One pair in memory: loaded, shared, exchanged, refused."""

import threading

import pytest

from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import (
    BackendUnavailable,
    LoadError,
    PairNotReady,
    UnknownPair,
)
from dflash_app.registry.pair import Pair
from dflash_app.workspace import Workspace
from tests.workspaces import home_with_pairs, script_backend, workspace

__all__ = ["home_with_pairs", "workspace"]


def test_a_pair_is_loaded_once_for_the_same_options(workspace: Workspace) -> None:
    first = workspace.loaded("one")
    assert workspace.loaded("one") is first
    assert script_backend(workspace).events == ["load one"]


def test_other_options_load_anew_and_reach_the_backend(workspace: Workspace) -> None:
    options = LoadOptions(dtype="bfloat16", num_threads=1)
    workspace.loaded("one")
    workspace.loaded("one", options)
    assert script_backend(workspace).events == ["load one", "close one", "load one"]
    assert script_backend(workspace).options[-1] == options


def test_a_target_stored_otherwise_is_another_target_and_the_drafters_storage_is_not(
    workspace: Workspace,
) -> None:
    workspace.loaded("one")
    workspace.loaded("one-more", LoadOptions(quantization="nf4"))
    workspace.loaded("one", LoadOptions(quantization="nf4", drafter_quantization="int8"))
    assert script_backend(workspace).events == [
        "load one", "close one", "load one-more", "load one", "close one-more",
    ]  # fmt: skip


def test_another_pair_is_loaded_only_after_the_first_has_left_memory(workspace: Workspace) -> None:
    workspace.loaded("one")
    workspace.loaded("two")
    assert script_backend(workspace).events == ["load one", "close one", "load two"]


def test_a_pair_with_the_same_target_is_loaded_before_the_first_is_closed(
    workspace: Workspace,
) -> None:
    workspace.loaded("one")
    workspace.loaded("one-more")
    assert script_backend(workspace).events == ["load one", "load one-more", "close one"]


def test_a_pair_that_cannot_be_loaded_brings_the_one_before_back(workspace: Workspace) -> None:
    script_backend(workspace).failing.add("two")
    options = LoadOptions(num_threads=1)
    workspace.loaded("one", options)
    with pytest.raises(LoadError, match=r"corrupt: download it again; 'one' was loaded again\.$"):
        workspace.loaded("two")
    events = ["load one", "close one", "load two", "load one"]
    assert script_backend(workspace).events == events
    assert script_backend(workspace).options[-1] == options
    assert workspace.loaded("one", options).name == "one"
    assert script_backend(workspace).events == events


def test_a_pair_before_that_cannot_come_back_is_said_and_others_still_load(
    workspace: Workspace,
) -> None:
    workspace.loaded("one")
    script_backend(workspace).failing.update({"one", "two"})
    with pytest.raises(LoadError, match=r"; 'one' could not be loaded again either: choose a pair"):
        workspace.loaded("two")
    assert workspace.loaded("one-more").name == "one-more"


def test_a_backend_that_checks_first_keeps_the_pair_that_is_in_memory(workspace: Workspace) -> None:
    backend = script_backend(workspace)
    checked = []

    def check(pair: Pair, options: LoadOptions) -> None:
        checked.append((pair.name, options))
        raise LoadError(f"{pair.name} is not for this: choose another.")

    backend.check = check  # type: ignore[attr-defined]
    first = workspace.loaded("one")
    assert checked == [], "nothing has to leave, so loading itself may tell"
    with pytest.raises(LoadError, match="two is not for this: choose another"):
        workspace.loaded("two", LoadOptions(num_threads=2))
    assert workspace.loaded("one") is first
    assert checked == [("two", LoadOptions(num_threads=2))]
    assert backend.events == ["load one"]


def test_a_refusal_keeps_the_pair_that_is_in_memory(workspace: Workspace) -> None:
    first = workspace.loaded("one")
    with pytest.raises(PairNotReady):
        workspace.loaded("not-here")
    assert workspace.loaded("one") is first


def test_threads_that_ask_at_once_get_the_same_pair(workspace: Workspace) -> None:
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(workspace.loaded("one"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(loaded) for loaded in found}) == 1
    assert script_backend(workspace).events == ["load one"]


def test_a_backend_that_does_not_work_here_is_passed_over(workspace: Workspace) -> None:
    assert workspace.loaded("two").backend == "script"


@pytest.mark.parametrize(
    ("name", "backend", "error", "words"),
    [
        ("no-such-pair", None, UnknownPair, "dflash-app pairs"),
        ("not-here", None, PairNotReady, "not on this machine"),
        ("no-drafter-yet", None, PairNotReady, "only partly here"),
        ("elsewhere", None, PairNotReady, "runs on vllm, which this app does not have"),
        ("only-absent", None, BackendUnavailable, "absent: Install it first"),
        ("two", "absent", BackendUnavailable, "Install it first"),
        ("one", "torch", PairNotReady, "does not run on 'torch': use script"),
        ("elsewhere", "torch", PairNotReady, "use none of this app's backends"),
    ],
)
def test_a_pair_that_cannot_be_used_is_refused_with_the_reason(
    workspace: Workspace, name: str, backend: str | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        workspace.loaded(name, backend=backend)


def test_a_target_alone_needs_no_drafter_on_disk(workspace: Workspace) -> None:
    assert workspace.loaded("no-drafter-yet", LoadOptions(drafter=False)).name == "no-drafter-yet"


def test_a_planned_pair_is_refused(workspace: Workspace) -> None:
    planned = next(pair.name for pair in workspace.pairs() if pair.status == "planned")
    with pytest.raises(PairNotReady):
        workspace.loaded(planned)
