"""What does not fit is refused before it starts; what finds no memory on the way is cleaned up."""

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dflash_app.backends.torch.backend import TorchBackend
from dflash_app.backends.torch.loading import load_models, memory_need
from dflash_app.backends.torch.memory import held_bytes
from dflash_app.backends.torch.models import held_on
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import LoadError, RequestError
from dflash_app.request import GenerationRequest, Message
from dflash_app.settings import EMBEDDED_DIR
from tests.backends.torch.short_of_memory import LARGE_CACHE, turn, write_pair

ROOT = Path(__file__).parent.parent.parent.parent
CPU = LoadOptions(device="cpu")
SHORT = "The device ran out of memory"

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What became of turns under a real limit of memory."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.backends.torch.short_of_memory",
            tmp_path_factory.mktemp("m"),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@linux
def test_a_prompt_that_finds_no_memory_is_read_in_smaller_pieces_and_said(turns: Any) -> None:
    limited, free = turns["prompt"]["limited"], turns["prompt"]["free"]
    assert limited["error"] is None
    assert len(limited["notes"]) == 1
    assert limited["notes"][0].startswith("Memory is short: the prompt was read in pieces of ")
    assert limited["tokens"] == free["tokens"]
    assert free["notes"] == []


@linux
def test_a_cache_that_cannot_grow_ends_the_turn_with_a_sentence(turns: Any) -> None:
    limited, free = turns["growth"]["limited"], turns["growth"]["free"]
    assert limited["error"].startswith(f"GenerationFailed: {SHORT}")
    assert 0 < len(limited["tokens"]) < len(free["tokens"]) == 60
    assert limited["tokens"] == free["tokens"][: len(limited["tokens"])]
    assert free["error"] is None


@linux
@pytest.mark.parametrize("case", ["prompt", "growth"])
def test_the_next_turn_works_under_the_same_limit(turns: Any, case: str) -> None:
    assert turns[case]["after"] == turns[case]["before"]
    assert len(turns[case]["after"]["tokens"]) == 8


@linux
def test_weights_that_find_no_memory_are_not_taken_for_damaged(turns: Any) -> None:
    for limited, free in turns["load"]:
        assert re.match(r"LoadError: .* not fit into .*memory.*: free some, or choose nf4", limited)
        assert free == ""


def test_what_a_long_turn_left_makes_room_for_the_next_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair: Any = TorchBackend().load(write_pair(tmp_path / "target", **LARGE_CACHE), CPU)
    try:
        models = pair._models
        budget = models.need.bytes_at(1104) + 1_000_000
        monkeypatch.setattr(
            "dflash_app.backends.torch.models.free_bytes", lambda _: budget - held_bytes(models)
        )
        for num_words in (1100, 20, 1100, 1100, 20, 5):
            assert turn(pair, num_words, 4)["error"] is None
            pair._worker.call(lambda: None)
        assert models.unused_bytes() > 0.9 * models.need.cache_bytes(1104)
        assert "lower the limit" in turn(pair, 4000, 4)["error"]
        models.free_unused()
        assert models.unused_bytes() == 0
    finally:
        pair.close()


def test_a_request_without_drafts_needs_no_room_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = EMBEDDED_DIR / "target", EMBEDDED_DIR / "drafter"
    models = load_models(*folders, CPU)
    assert models.need is not None
    alone = models.need.alone().bytes_at(300) - models.need.weight_bytes
    monkeypatch.setattr("dflash_app.backends.torch.models.free_bytes", lambda _: alone)
    assert models.no_room_reason([300], drafting=False) is None
    assert "are free on cpu" in str(models.no_room_reason([300], drafting=True))


def test_all_of_a_pair_makes_room_for_the_next_but_on_its_own_device_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TorchBackend()
    held, wide = (
        write_pair(tmp_path / "held", **LARGE_CACHE),
        write_pair(tmp_path / "wide", **{**LARGE_CACHE, "intermediate_size": 1 << 14}),
    )
    pair: Any = backend.load(held, CPU)
    models = pair._models
    assert turn(pair, 1000, 4)["error"] is None
    pair._worker.call(lambda: None)
    here, there = torch.device("cpu"), torch.device("cuda", 1)
    assert held_on(here, [models, models]) == models.memory_bytes() + models.unused_bytes()
    assert held_on(there, [models]) == 0
    least = memory_need(tmp_path / "wide", None, CPU).bytes_at(1)  # type: ignore[union-attr]
    free = least - models.memory_bytes() - models.unused_bytes()
    monkeypatch.setattr("dflash_app.backends.torch.memory.free_bytes", lambda _: free)
    backend.check(wide, CPU)
    monkeypatch.setattr("dflash_app.backends.torch.memory.free_bytes", lambda _: free - 1)
    with pytest.raises(LoadError, match="are free on cpu"):
        backend.check(wide, CPU)
    pair.close()
    assert held_on(here, [models]) == 0


def test_a_target_without_its_embedding_is_refused_by_the_tensors_name(tmp_path: Path) -> None:
    row = write_pair(tmp_path / "target", **LARGE_CACHE, tie_word_embeddings=True)
    weights = tmp_path / "target" / "model.safetensors"
    state = {name: each for name, each in load_file(weights).items() if "embed" not in name}
    save_file(state, weights, {"format": "pt"})
    TorchBackend().check(row, CPU)
    with pytest.raises(LoadError, match=r"incomplete; download it again: .*(embed|head)"):
        TorchBackend().load(row, CPU)


def test_more_context_than_fits_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    # A token takes a megabyte.
    wide = {"num_hidden_layers": 8, "head_dim": 2048}
    shape = {**LARGE_CACHE, **wide, "max_position_embeddings": 1 << 30}
    row = write_pair(tmp_path / "target", **shape)
    pair = TorchBackend().load(row, CPU)
    try:
        request = GenerationRequest((Message("user", "w1"),), max_new_tokens=1_000_000, mode="ar")
        with pytest.raises(RequestError, match=r"lower the limit or shorten.* tokens in all"):
            pair.stream(request)
        events = list(pair.stream(GenerationRequest(request.messages, max_new_tokens=2, mode="ar")))
        assert events
    finally:
        pair.close()


def test_weights_that_no_machine_holds_are_refused_before_they_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "target"
    row = write_pair(folder, **LARGE_CACHE)
    weights = folder / "model.safetensors"
    num_bytes = 2 * 10**12
    name = "model.layers.0.mlp.up_proj.weight"
    said = {"dtype": "F32", "shape": [num_bytes // 128, 32], "data_offsets": [0, num_bytes]}
    header = json.dumps({name: said}).encode()
    weights.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(weights, 8 + len(header) + num_bytes)  # sparse: it takes no room on disk
    for refuse in (TorchBackend().check, TorchBackend().load):
        with pytest.raises(LoadError, match=r"needs 2,?000\.\d GB.*are free on cpu: choose nf4"):
            refuse(row, CPU)
