"""What the lanes of a race are loaded as, beside what, and when it goes."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dflash_app.engine.local import LocalPair
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.engine.worker import Worker
from dflash_app.errors import GenerationFailed, LoadError, PairNotReady, RequestError
from dflash_app.plugins import load_plugins
from dflash_app.race import LaneSpec, RaceLane
from dflash_app.registry.custom import new_pair, read_server
from dflash_app.registry.load import load_registry
from dflash_app.registry.pair import Pair
from dflash_app.request import Mode
from dflash_app.settings import Settings
from dflash_app.store.runs import Store
from dflash_app.workspace import Workspace
from tests.engine.scripted import ScriptedModels
from tests.engine.tiny_tokenizers import chat_tokenizer
from tests.fakes import (
    ScriptedBackend,
    ScriptedPair,
    ScriptedServerPair,
    ask,
    script_of,
    server_script_of,
)

ROW = """
  - name: {name}
    title: {name}
    family: test
    target: {{path: "{home}/{target}"}}
    drafter: {{path: "{home}/{drafter}"}}
    backends: [{backend}]
"""
ROWS = (
    ("one", "target", "drafter", "script"),
    ("sibling", "target", "second", "script"),
    ("gone", "target", "nowhere", "script"),
    ("elsewhere", "target", "drafter", "alone"),
    ("threaded", "target", "drafter", "threads"),
)
WHOLE, HALF = LoadOptions(dtype="float32"), LoadOptions(dtype="bfloat16")


@dataclass
class AloneBackend:
    """Holds one pair at a time."""

    name: str = "alone"
    options: list[LoadOptions] = field(default_factory=list)

    def unavailable_reason(self) -> None:
        return None

    def load(self, pair: Pair, options: LoadOptions) -> ScriptedPair:
        return ScriptedPair([script_of((2,))] * 2, name=pair.name, backend=self.name)


class ThreadsBackend:
    """Pairs of a real worker; no step ends by itself before the worker is closed."""

    name = "threads"

    def unavailable_reason(self) -> None:
        return None

    def load(self, pair: Pair, options: LoadOptions) -> LocalPair:
        return self._open(pair, Worker(pair.name), guest=False)

    def load_beside(self, pair: Pair, options: LoadOptions, host: LoadedPair) -> LocalPair:
        assert isinstance(host, LocalPair)
        return self._open(pair, host.worker, guest=True)

    def _open(self, pair: Pair, worker: Worker, *, guest: bool) -> LocalPair:
        models = ScriptedModels(next_token=lambda prefix: 40 + len(prefix) % 50)

        def until_closed() -> None:
            for _ in range(20):  # and in no case for ever
                if not worker._closed:
                    time.sleep(0.01)

        models.on_verify = until_closed
        return LocalPair(
            name=pair.name,
            backend=self.name,
            tokenizer=chat_tokenizer(),
            models=models,
            worker=worker,
            guest=guest,
        )


@dataclass
class ServerBackend:
    """Pairs on servers, which share no thread."""

    notes: list[str]
    name: str = "remote"

    def unavailable_reason(self) -> None:
        return None

    def load(self, pair: Pair, options: LoadOptions) -> ScriptedServerPair:
        self.notes.append(f"reach {pair.name}")
        return ScriptedServerPair([server_script_of((1,), (2, 3))] * 2, name=pair.name)


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
def workspace(settings: Settings, backend: ScriptedBackend) -> Iterator[Workspace]:
    home = settings.home
    for name in ("target", "drafter", "second"):
        (home / name).mkdir(parents=True)
        for file in ("config.json", "model.safetensors", "tokenizer.json"):
            (home / name / file).write_text("{}")
    path = Path(home / "pairs.yaml")
    rows = "".join(
        ROW.format(home=home, name=name, target=target, drafter=drafter, backend=backend)
        for name, target, drafter, backend in ROWS
    )
    path.write_text(f"pairs:{rows}")
    with closing(
        Workspace(
            settings=settings,
            registry=load_registry([path]),
            plugins=load_plugins(settings),
            store=Store(None),
            store_problem=None,
            _backends={
                "script": backend,
                "alone": AloneBackend(),
                "threads": ThreadsBackend(),
                "remote": ServerBackend(notes=backend.events),
            },
        )
    ) as opened:
        for name in ("served", "other-server"):
            opened.add_pair(new_pair(name, read_server(f"http://{name}/v1", "t"), None))
        yield opened


def lane(pair: str = "one", mode: Mode = "dflash", options: LoadOptions = WHOLE) -> LaneSpec:
    return LaneSpec(pair, options, ask(mode=mode))


def pairs_of(lanes: list[RaceLane]) -> list[LoadedPair]:
    return [each.loaded for each in lanes]


def test_lanes_of_one_pair_share_it_and_it_stays(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    specs = [lane(mode="ar"), lane(), lane()]
    with workspace.lanes(specs) as lanes:
        first, second, third = pairs_of(lanes)
        assert first is second is third
        assert [each.request for each in lanes] == [spec.request for spec in specs]
    assert backend.events == ["load one"]
    assert backend.options == [WHOLE]
    assert workspace.loaded("one", WHOLE) is first


def test_another_drafter_and_another_precision_are_loaded_beside_and_go_after(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    with workspace.lanes([lane(), lane("sibling"), lane(options=HALF)]) as lanes:
        assert len({id(pair) for pair in pairs_of(lanes)}) == 3
        loaded = ["load one", "load sibling beside one", "load one beside one"]
        assert backend.events == loaded
    assert backend.events == [*loaded, "close sibling", "close one"]
    assert workspace.loaded("one", WHOLE) is lanes[0].loaded


def test_the_pair_in_memory_stays_though_another_lane_comes_first(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    held = workspace.loaded("sibling", WHOLE)
    with workspace.lanes([lane(mode="ar"), lane("sibling")]) as lanes:
        assert lanes[1].loaded is held
    assert backend.events == ["load sibling", "load one beside sibling", "close one"]
    assert backend.options[-1] == LoadOptions(dtype="float32", drafter=False)


def test_plain_decoding_takes_the_pair_in_memory_with_its_drafter(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    held = workspace.loaded("one", WHOLE)
    with workspace.lanes([lane(mode="ar"), lane(mode="ar")]) as lanes:
        assert pairs_of(lanes) == [held, held]
    assert backend.events == ["load one"]


def test_what_fails_to_load_frees_what_was_loaded_before_it(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    with pytest.raises(PairNotReady), workspace.lanes([lane(), lane("sibling"), lane("gone")]):
        pass
    backend.failing = {"sibling"}
    with pytest.raises(LoadError), workspace.lanes([lane(), lane(options=HALF), lane("sibling")]):
        pass
    assert backend.events == [
        "load one",
        *("load sibling beside one", "close sibling"),
        *("load one beside one", "load sibling beside one", "close one"),
    ]


def test_an_error_in_the_race_frees_them_too(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    with pytest.raises(KeyError), workspace.lanes([lane(), lane("sibling")]):
        raise KeyError
    assert backend.events[-1] == "close sibling"


def test_unloading_closes_guests_with_their_host_and_once(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    with workspace.lanes([lane(), lane("sibling")]):
        workspace.unload()
    assert backend.events[-2:] == ["close one", "close sibling"]


def test_unloading_ends_a_race_with_guests_and_does_not_wait_for_its_last_token(
    workspace: Workspace,
) -> None:
    request = ask(mode="ar", max_new_tokens=8)
    specs = [LaneSpec("threaded", options, request) for options in (WHOLE, HALF)]
    with workspace.lanes(specs) as lanes:
        events = workspace.race_lanes(lanes)
        next(events)
        workspace.unload()
        with pytest.raises(GenerationFailed, match="unloaded while it was working"):
            list(events)


def test_a_backend_that_holds_one_pair_refuses_two(workspace: Workspace) -> None:
    specs = [lane("elsewhere"), lane("elsewhere", options=HALF)]
    with pytest.raises(RequestError, match="choose lanes of one pair"), workspace.lanes(specs):
        pass
    with workspace.lanes([lane("elsewhere", "ar"), lane("elsewhere")]) as lanes:
        events = list(workspace.race_lanes(lanes))
    assert {index for index, _ in events} == {0, 1}
    assert len({run.start.group_id for run in workspace.store.list_runs()}) == 1


def test_a_server_is_reached_without_any_file_and_its_runs_are_recorded(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    assert workspace.state("served").status == "ready"
    loaded = workspace.loaded("served")
    assert list(workspace.run(loaded, ask(mode="ar"), source="chat"))
    (run,) = workspace.store.list_runs()
    assert (run.start.pair, run.start.backend, run.output) == ("served", "remote", "bcd")
    assert (run.start.target_revision, run.start.policy) == (None, None)
    assert workspace.loaded("served") is loaded
    assert backend.events == ["reach served"]


@pytest.mark.parametrize("wanted", [None, "script", "remote"])
def test_servers_race_against_pairs_of_this_machine_which_stay_in_memory(
    workspace: Workspace, backend: ScriptedBackend, wanted: str | None
) -> None:
    specs = [lane("served", "ar"), lane("threaded", "ar"), lane("other-server", "ar")]
    with workspace.lanes(specs, None if wanted == "script" else wanted) as lanes:
        assert [each.loaded.name for each in lanes] == ["served", "threaded", "other-server"]
        held = lanes[1].loaded
    assert backend.events == ["reach served", "reach other-server"]
    assert workspace.loaded("threaded", replace(WHOLE, drafter=False)) is held
    with workspace.lanes([lane("one", "ar"), lane("served", "ar")], wanted) as lanes:
        assert [each.loaded.backend for each in lanes] == ["script", "remote"]


def test_a_backend_that_a_lane_does_not_run_on_is_refused(workspace: Workspace) -> None:
    for specs, backend in (
        ([lane("served", "ar"), lane("served", "ar")], "script"),
        ([lane("one", "ar"), lane("one")], "remote"),
    ):
        refused = pytest.raises(PairNotReady, match="does not run on")
        with refused, workspace.lanes(specs, backend):
            pass


def test_two_servers_race_one_after_the_other(
    workspace: Workspace, backend: ScriptedBackend
) -> None:
    specs = [lane("served", "ar"), lane("other-server", "ar")]
    with workspace.lanes(specs, "remote") as lanes:
        order = [index for index, _ in workspace.race_lanes(lanes)]
    assert order == sorted(order)
    assert set(order) == {0, 1}
    assert len({run.start.group_id for run in workspace.store.list_runs()}) == 1
    assert workspace.loaded("served", replace(WHOLE, drafter=False)) is lanes[0].loaded
