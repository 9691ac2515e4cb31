import pytest
from dflash_plugins.benchmark import ranks
from dflash_plugins.benchmark.plan import Plan
from dflash_plugins.benchmark.ranks import Ranks, read_ranks
from dflash_plugins.benchmark.runner import Share

from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import RequestError

TORCHRUN = {
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "4",
    "RANK": "2",
    "TORCHELASTIC_RUN_ID": "none",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "hardware_fingerprint", lambda: {"gpus": ["H200", "H200"]})


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "hardware_fingerprint", lambda: {"gpus": []})


def on(device: str | None) -> Plan:
    return Plan(options=LoadOptions(device))


def test_without_torchrun_there_is_one_process_that_asks_everything() -> None:
    alone = read_ranks({})
    assert (alone.rank, alone.count, alone.first) == (0, 1, True)
    assert alone.share(Plan(), remote=True) == Share()
    assert alone.launch != read_ranks({}).launch


def test_processes_of_one_launch_know_each_other() -> None:
    third, fourth = read_ranks(TORCHRUN), read_ranks(TORCHRUN | {"RANK": "3"})
    assert (third.rank, third.count, third.first) == (2, 4, False)
    assert third.launch == fourth.launch
    assert third.launch != read_ranks(TORCHRUN | {"MASTER_PORT": "29501"}).launch


@pytest.mark.usefixtures("two_gpus")
def test_each_process_has_a_gpu_of_its_own() -> None:
    second = Ranks(1, 2, "launch")
    for device in (None, "cuda"):
        assert second.share(on(device), remote=False) == Share(1, 2, "cuda:1")
    assert second.share(on("cpu"), remote=False) == Share(1, 2, "cpu")
    with pytest.raises(RequestError, match="3 processes were started for 2 GPUs"):
        Ranks(2, 3, "launch").share(on(None), remote=False)


@pytest.mark.usefixtures("no_gpu")
def test_where_no_gpu_is_seen_the_device_must_be_named() -> None:
    first = Ranks(0, 2, "launch")
    with pytest.raises(RequestError, match="--device cpu"):
        first.share(on(None), remote=False)
    assert first.share(on("cuda"), remote=False).device == "cuda:0"


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(RequestError, match="give --concurrency"):
        Ranks(0, 2, "launch").share(Plan(), remote=True)
    with pytest.raises(RequestError, match="--nnodes 1"):
        read_ranks(TORCHRUN | {"LOCAL_WORLD_SIZE": "2"})


@pytest.mark.parametrize("told", [{"WORLD_SIZE": "4"}, {"WORLD_SIZE": "", "RANK": ""}])
def test_variables_of_others_are_not_torchruns(told: dict[str, str]) -> None:
    assert read_ranks(told).count == 1
