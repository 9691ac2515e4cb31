"""A pair loaded beside another: its thread, what they share, room for both, and a race of both."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dflash_app.backends.torch.backend import TorchBackend
from dflash_app.backends.torch.loading import memory_need
from dflash_app.engine.protocol import LoadOptions
from dflash_app.engine.racing import race_lanes
from dflash_app.errors import LoadError
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.request import GenerationRequest, Message
from dflash_app.settings import EMBEDDED_DIR
from tests.engine.scripted import output

CPU = LoadOptions(device="cpu", dtype="float32", num_threads=1)
HALF = replace(CPU, dtype="bfloat16")
ASKED = GenerationRequest((Message("user", "What is 12 + 30?"),), 48)
FREE = "dflash_app.backends.torch.memory.free_bytes"


def pair_with(drafter: Path) -> Pair:
    return Pair(
        name=f"embedded-{drafter.name}",
        title="Embedded",
        family="qwen3",
        target=ModelRef(path=str(EMBEDDED_DIR / "target")),
        drafter=ModelRef(path=str(drafter)),
    )


@pytest.fixture
def other_drafter(tmp_path: Path) -> Pair:
    shutil.copytree(EMBEDDED_DIR / "drafter", tmp_path / "copy")
    return pair_with(tmp_path / "copy")


@pytest.fixture(scope="module")
def backend() -> TorchBackend:
    return TorchBackend()


@pytest.fixture(scope="module")
def host(backend: TorchBackend) -> Iterator[Any]:
    with closing(backend.load(pair_with(EMBEDDED_DIR / "drafter"), CPU)) as loaded:
        yield loaded


def test_lanes_of_two_drafters_and_two_precisions_race_on_one_thread(
    backend: TorchBackend, host: Any, other_drafter: Pair
) -> None:
    mine = pair_with(EMBEDDED_DIR / "drafter")
    second: Any = backend.load_beside(other_drafter, CPU, host)
    third: Any = backend.load_beside(mine, HALF, host)
    with closing(second), closing(third):
        assert second.worker is third.worker is host.worker
        assert second._models.target is host._models.target
        assert third._models.target is not host._models.target
        assert (third.dtype, third.name) == ("bfloat16", host.name)
        plain = replace(ASKED, mode="ar")
        lanes = [(host, plain), (second, ASKED), (third, ASKED), (third, plain)]
        found = list(race_lanes(lanes))
        outputs = [output([each for index, each in found if index == i]) for i in range(4)]
        assert outputs[0] == outputs[1] != []
        assert len(outputs[2]) == len(outputs[3]) > 0
    assert output(list(host.stream(plain))) == outputs[0]


def test_a_second_target_counts_beside_the_first_and_a_shared_one_does_not(
    backend: TorchBackend, host: Any, other_drafter: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = EMBEDDED_DIR / "target", EMBEDDED_DIR / "drafter"
    whole, half = memory_need(*folders, CPU), memory_need(*folders, HALF)
    assert whole is not None
    assert half is not None
    least = half.bytes_at(1)
    monkeypatch.setattr(FREE, lambda _: least - 1)
    with pytest.raises(LoadError, match=r"are free on cpu beside 'embedded-drafter' \(float32\)"):
        backend.load_beside(other_drafter, HALF, host)
    monkeypatch.setattr(FREE, lambda _: whole.bytes_at(1) - host._models.target.memory_bytes())
    backend.load_beside(other_drafter, CPU, host).close()
    assert output(list(host.stream(ASKED))) != []


def test_a_host_gives_up_what_its_last_turn_left_before_a_guest_is_refused(
    backend: TorchBackend, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = memory_need(EMBEDDED_DIR / "target", EMBEDDED_DIR / "drafter", HALF)
    assert need is not None
    before, least = output(list(host.stream(ASKED))), need.bytes_at(1)
    left = host._models.unused_bytes()
    assert left > 0
    monkeypatch.setattr(FREE, lambda _: least + left - 1 - host._models.unused_bytes())
    backend.load_beside(pair_with(EMBEDDED_DIR / "drafter"), HALF, host).close()
    assert host._models.unused_bytes() < left
    assert output(list(host.stream(ASKED))) == before


def test_a_guest_that_fails_to_load_leaves_its_host_as_it_was(
    backend: TorchBackend, host: Any, tmp_path: Path
) -> None:
    shutil.copytree(EMBEDDED_DIR / "drafter", tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(LoadError, match="download it again"):
        backend.load_beside(pair_with(tmp_path / "broken"), CPU, host)
    assert output(list(host.stream(ASKED))) != []
