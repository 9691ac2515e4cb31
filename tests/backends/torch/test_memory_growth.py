"""A thousand turns leave nothing behind: no tensor, and no more of the process's memory."""

import gc
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from dflash_app.backends.torch.backend import TorchBackend
from dflash_app.engine.protocol import LoadedPair, LoadOptions
from dflash_app.events import Finished, StepDone
from dflash_app.registry.load import load_registry
from dflash_app.request import GenerationRequest, Message, SamplingParams
from dflash_app.settings import find_bundled

NUM_WARM = 210
NUM_TURNS = 5 * NUM_WARM
"""Turns repeat themselves after 210: the last one leaves what the warm-up's last one left."""
NOISE_BYTES = 8_000_000
"""Of the process: what allocators and Python keep varies by this much."""

QUESTIONS = ("Is 91 a prime number?", "What is 7 times 8?", "How many metres are 3 km?")


def tensor_bytes() -> int:
    """Of all tensors that are alive, each piece of memory once."""
    gc.collect()
    storages = {}
    for found in gc.get_objects():
        # By its type: to ask a deprecated object of torch for its class warns.
        if (
            issubclass(type(found), torch.Tensor)
            and found.layout == torch.strided
            and not found.is_meta
        ):
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def settled(pair: Any) -> tuple[int, int]:
    """Both, once the worker has closed its last lane."""
    pair._worker.call(lambda: None)
    return tensor_bytes(), resident_bytes()


def converse(pair: LoadedPair, turn: int) -> None:
    """One short turn: plain or with drafts, after the turn before or not, and some cancelled."""
    messages = [Message("user", QUESTIONS[turn % 3])]
    if turn % 5:  # goes on from the turn before, as far as the prompt allows
        messages += [Message("assistant", "Yes."), Message("user", QUESTIONS[turn % 2])]
    request = GenerationRequest(
        messages=tuple(messages),
        max_new_tokens=3,
        mode="ar" if turn % 2 else "dflash",
        sampling=SamplingParams(temperature=0.7 if turn % 7 == 0 else 0.0, seed=turn),
    )
    events = pair.stream(request)
    for event in events:
        if turn % 10 == 3 and isinstance(event, StepDone):
            break
        if isinstance(event, Finished):
            assert event.reason in ("length", "stop")
    events.close()  # type: ignore[attr-defined]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells it there")
def test_a_thousand_turns_leave_nothing_behind() -> None:
    row = load_registry([find_bundled("model_registry.yaml")]).get("embedded")
    pair = TorchBackend().load(row, LoadOptions(device="cpu", num_threads=1))
    try:
        for turn in range(NUM_WARM):
            converse(pair, turn)
        tensors, resident = settled(pair)
        for turn in range(NUM_TURNS):
            converse(pair, turn)
        tensors_after, resident_after = settled(pair)
        assert tensors_after == tensors
        assert resident_after - resident < NOISE_BYTES
    finally:
        pair.close()
