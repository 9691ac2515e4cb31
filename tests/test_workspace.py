"""The parts meet: registry, plugins, store and hub in one workspace."""

import subprocess
import sys
from pathlib import Path

import pytest

from dflash_app.errors import (
    StoreCorrupt,
)
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.fakes import ask
from tests.workspaces import home_with_pairs, make_model, script_backend, workspace

__all__ = ["home_with_pairs", "workspace"]


def test_opening_imports_neither_the_page_nor_a_tensor_library() -> None:
    code = (
        "import sys\n"
        "from dflash_app.workspace import open_workspace\n"
        "workspace = open_workspace()\n"
        "[workspace.state(pair.name) for pair in workspace.pairs()]\n"
        "workspace.close()\n"
        "print(sorted(set(sys.modules) & {'torch', 'gradio', 'transformers', 'mlx', 'plotly'}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "[]\n"


def test_user_pairs_and_plugin_backends_join_the_bundled_ones(workspace: Workspace) -> None:
    names = [pair.name for pair in workspace.pairs()]
    assert "embedded" in names
    assert "one" in names
    assert {"torch", "script", "absent"} <= set(workspace.backends())
    assert workspace.state("one").status == "ready"
    assert workspace.store_problem is None


def test_runs_and_races_land_in_the_workspace_s_store(workspace: Workspace) -> None:
    loaded = workspace.loaded("one")
    list(workspace.run(loaded, ask(), source="chat"))
    list(workspace.race(loaded, [ask(mode="ar"), ask()]))
    assert [record.start.source for record in workspace.store.list_runs()] == [
        "race",
        "race",
        "chat",
    ]


def test_revisions_are_the_commits_in_the_hub_s_cache(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    pair = next(p for p in workspace.pairs() if p.target.repo and p.target.revision)
    assert workspace.revisions(pair.name) == (None, None)
    base = tmp_path / "hub" / f"models--{str(pair.target.repo).replace('/', '--')}" / "snapshots"
    base.mkdir(parents=True)
    make_model(base / str(pair.target.revision))
    assert workspace.revisions(pair.name) == (pair.target.revision, None)
    assert workspace.revisions("one") == (None, None)


def test_closing_frees_the_models(home_with_pairs: Settings) -> None:
    workspace = open_workspace(home_with_pairs)
    backend = script_backend(workspace)
    workspace.loaded("one")
    workspace.close()
    assert backend.events == ["load one", "close one"]


def test_a_broken_database_is_named_and_runs_are_kept_in_memory(home_with_pairs: Settings) -> None:
    home_with_pairs.database.write_bytes(b"not a database " * 100)
    workspace = open_workspace(home_with_pairs)
    assert isinstance(workspace.store_problem, StoreCorrupt)
    assert str(home_with_pairs.database) in str(workspace.store_problem)
    list(workspace.run(workspace.loaded("one"), ask(), source="chat"))
    assert [record.output for record in workspace.store.list_runs()] == ["bcd"]
    workspace.close()
    assert home_with_pairs.database.read_bytes() == b"not a database " * 100


def test_a_wrong_row_in_the_user_s_registry_is_listed_and_the_rest_works(
    home_with_pairs: Settings,
) -> None:
    with home_with_pairs.user_registry.open("a") as file:
        file.write("- name: broken\n")
    workspace = open_workspace(home_with_pairs)
    assert [str(home_with_pairs.user_registry) in str(p) for p in workspace.registry.problems] == [
        True
    ]
    assert workspace.loaded("one").name == "one"
    workspace.close()


def test_every_pair_has_one_of_four_states_and_all_but_ready_a_reason(
    workspace: Workspace,
) -> None:
    states = {pair.name: workspace.state(pair.name) for pair in workspace.pairs()}
    assert states["one"].status == "ready"
    assert states["elsewhere"].status == "not supported"
    assert "runs on vllm, which this app does not have" in str(states["elsewhere"].reason)
    assert states["deepseek-v4-pro"].status == "planned"
    assert states["qwen3.5-4b"].status == "needs download"
    for state in states.values():
        assert state.status in ("ready", "needs download", "planned", "not supported")
        assert (state.reason is None) == (state.status == "ready")


def test_a_target_that_the_disk_shows_to_be_of_another_family_is_not_supported(
    workspace: Workspace, tmp_path: Path
) -> None:
    target = make_model(tmp_path / "strange")
    (target / "config.json").write_text('{"model_type": "mamba"}')
    ref = ModelRef(path=str(target))
    workspace.add_pair(Pair(name="strange", title="S", family="qwen3", target=ref))
    workspace.add_pair(
        Pair(name="strange-torch", title="S", family="qwen3", target=ref, backends=("torch",))
    )
    state = workspace.state("strange-torch")
    assert (state.status, state.target_dir) == ("not supported", target)
    assert "family 'mamba' are not supported yet" in str(state.reason)
    # A backend that does not tell may be able to: nothing is claimed.
    assert workspace.state("strange").status == "ready"
