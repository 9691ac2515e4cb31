"""Which backend runs a pair: the one that was asked for, else the default of this machine."""

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dflash_app.backends.choice import backends_for, choose_backend, unsupported_reason
from dflash_app.errors import BackendUnavailable, PairNotReady
from dflash_app.hub.cache import PairState
from dflash_app.registry.custom import new_pair, read_server
from dflash_app.registry.pair import ModelRef, Pair
from tests.fakes import ScriptedBackend


@dataclass
class PickyBackend(ScriptedBackend):
    """Runs one family only."""

    family: str = "test"

    def unsupported_reason(
        self, pair: Pair, target_dir: Path | None, drafter_dir: Path | None
    ) -> str | None:
        return None if pair.family == self.family else f"{self.name} runs {self.family} only."


def pair(*backends: str, family: str = "test") -> Pair:
    target = ModelRef(path="embedded:target")
    return Pair(name="one", title="One", family=family, target=target, backends=backends)


BOTH = {"torch": PickyBackend("torch"), "mlx": PickyBackend("mlx")}


@pytest.fixture
def on_apple_silicon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")


def test_elsewhere_the_order_of_the_row_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert backends_for(pair("torch", "mlx", "vllm"), BOTH) == ["torch", "mlx"]
    assert backends_for(pair(), BOTH) == ["torch", "mlx"]
    assert choose_backend(pair("torch", "mlx"), BOTH, None) is BOTH["torch"]
    assert choose_backend(pair("torch", "mlx"), BOTH, "mlx") is BOTH["mlx"]


@pytest.mark.usefixtures("on_apple_silicon")
def test_on_apple_silicon_mlx_is_the_default_and_torch_can_be_chosen() -> None:
    assert backends_for(pair("torch", "mlx"), BOTH) == ["mlx", "torch"]
    assert choose_backend(pair("torch", "mlx"), BOTH, None) is BOTH["mlx"]
    assert choose_backend(pair("torch", "mlx"), BOTH, "torch") is BOTH["torch"]
    assert choose_backend(pair("torch"), BOTH, None) is BOTH["torch"]


@pytest.mark.usefixtures("on_apple_silicon")
def test_what_mlx_cannot_run_falls_to_torch() -> None:
    backends = {"torch": PickyBackend("torch", family="rare"), "mlx": PickyBackend("mlx")}
    rare = pair("torch", "mlx", family="rare")
    assert backends_for(rare, backends) == ["torch"]
    assert choose_backend(rare, backends, None) is backends["torch"]
    assert unsupported_reason(rare, backends, PairState("ready", None, None, None)) is None


def test_what_does_not_work_here_is_not_offered_and_says_why() -> None:
    backends = {"torch": BOTH["torch"], "mlx": PickyBackend("mlx", reason="Install it first.")}
    assert backends_for(pair("torch", "mlx"), backends) == ["torch"]
    with pytest.raises(BackendUnavailable, match="mlx: Install it first"):
        choose_backend(pair("torch", "mlx"), backends, "mlx")
    with pytest.raises(PairNotReady, match="does not run on 'mlx': use torch"):
        choose_backend(pair("torch"), BOTH, "mlx")


def test_where_none_can_run_it_the_first_says_why() -> None:
    odd = pair("torch", "mlx", family="odd")
    assert backends_for(odd, BOTH) == []
    assert choose_backend(odd, BOTH, None) is BOTH["torch"]
    ready = PairState("ready", None, None, None)
    assert unsupported_reason(odd, BOTH, ready) == "torch runs test only."
    assert "vllm, which this app does not have" in str(
        unsupported_reason(pair("vllm"), BOTH, ready)
    )


SERVED = new_pair("served", read_server("http://gpu-box/v1", "org/T"), None)


def test_a_pair_on_a_server_runs_there_and_no_other_pair_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    known = {"torch": ScriptedBackend("torch"), "remote": ScriptedBackend("remote")}
    assert backends_for(SERVED, known) == ["remote"]
    assert choose_backend(SERVED, known, None) is known["remote"]
    assert backends_for(pair(), known) == ["torch"]
    with pytest.raises(PairNotReady, match="does not run on 'remote': use torch"):
        choose_backend(pair(), known, "remote")
    with pytest.raises(PairNotReady, match="does not run on 'torch': use remote"):
        choose_backend(SERVED, known, "torch")


def test_without_the_plugin_a_server_is_out_of_reach_and_the_cure_is_told() -> None:
    state = PairState("ready", None, None, None)
    told = unsupported_reason(SERVED, BOTH, state)
    assert told is not None
    assert "which the plugin 'remote' of this app reaches" in told
    with pytest.raises(PairNotReady, match="`dflash-app doctor`"):
        choose_backend(SERVED, BOTH, None)
