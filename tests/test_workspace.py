import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import (
    BackendUnavailable,
    LoadError,
    PairNotReady,
    RegistryError,
    StoreCorrupt,
    UnknownPair,
)
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.settings import Settings
from dflash_app.workspace import Workspace, open_workspace
from tests.fakes import ScriptedBackend, ask

PLUGIN = """
from dflash_app.hookspecs import hookimpl
from tests.fakes import ScriptedBackend

@hookimpl
def register_backends():
    return [ScriptedBackend("script"), ScriptedBackend("absent", reason="Install it first.")]
"""

ROW = """
- name: {name}
  title: {name}
  family: test
  target: {{path: {target}}}
  drafter: {{path: {drafter}}}
  backends: [{backends}]
"""


def make_model(folder: Path) -> Path:
    """Files that look complete to the cache; the scripted backend never reads them."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def home_with_pairs(settings: Settings, tmp_path: Path) -> Settings:
    target, other = make_model(tmp_path / "target"), make_model(tmp_path / "other")
    drafter, second = make_model(tmp_path / "drafter"), make_model(tmp_path / "second")
    gone = tmp_path / "gone"
    rows = [
        ("one", target, drafter, "script"),
        ("one-more", target, second, "script"),
        ("two", other, drafter, "absent, script"),
        ("no-drafter-yet", target, gone, "script"),
        ("not-here", gone, gone, "script"),
        ("elsewhere", target, drafter, "vllm"),
        ("only-absent", target, drafter, "absent"),
    ]
    text = "".join(
        ROW.format(name=name, target=target, drafter=drafter, backends=backends)
        for name, target, drafter, backends in rows
    )
    settings.user_registry.write_text(f"pairs:{text}")
    (settings.user_plugins / "scripted").mkdir(parents=True)
    (settings.user_plugins / "scripted" / "__init__.py").write_text(PLUGIN)
    return settings


@pytest.fixture
def workspace(home_with_pairs: Settings) -> Iterator[Workspace]:
    opened = open_workspace(home_with_pairs)
    assert opened.registry.problems == ()
    yield opened
    opened.close()


def script_backend(workspace: Workspace) -> ScriptedBackend:
    found = workspace.backends()["script"]
    assert type(found).__name__ == "ScriptedBackend"
    return found  # type: ignore[return-value]


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
