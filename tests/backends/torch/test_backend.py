"""A registry row becomes a pair that streams; the target is kept when only the drafter changes."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dflash_app.backends.torch.backend import TorchBackend
from dflash_app.backends.torch.checkpoint import save_drafter
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import BackendUnavailable, LoadError, PairNotReady
from dflash_app.events import Finished, StepDone
from dflash_app.registry.pair import ModelRef, Pair
from dflash_app.request import GenerationRequest, Message, SamplingParams

CPU = LoadOptions(device="cpu")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


@pytest.fixture
def pair(make_target: Callable[..., Any], make_drafter: Callable[..., Any], tmp_path: Path) -> Pair:
    words = [f"w{index}" for index in range(92)]
    vocab = {
        word: index for index, word in enumerate(["<unk>", "<|im_start|>", "<|im_end|>", *words])
    }
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(tmp_path / "target")
    make_target("qwen3", 96).model.save_pretrained(tmp_path / "target")
    save_drafter(make_drafter(96), tmp_path / "drafter")
    return Pair(
        name="tiny",
        title="Tiny",
        family="qwen3",
        target=ModelRef(path=str(tmp_path / "target")),
        drafter=ModelRef(path=str(tmp_path / "drafter")),
    )


@pytest.fixture
def backend() -> Iterator[TorchBackend]:
    threads = torch.get_num_threads()
    yield TorchBackend()
    torch.set_num_threads(threads)


def _tokens(loaded: Any, **changes: Any) -> list[int]:
    messages = (Message("user", "w1 w2 w3"),)
    tokens: list[int] = []
    for event in loaded.stream(GenerationRequest(messages, max_new_tokens=40, **changes)):
        if isinstance(event, StepDone):
            tokens.extend(event.token_ids)
    assert isinstance(event, Finished)
    return tokens


def test_a_pair_streams_the_same_tokens_in_both_modes(backend: TorchBackend, pair: Pair) -> None:
    loaded = backend.load(pair, CPU)
    try:
        assert (loaded.name, loaded.backend, loaded.device) == ("tiny", "torch", "cpu")
        assert (loaded.dtype, loaded.block_size, loaded.context_length) == ("float32", 16, 512)
        assert _tokens(loaded, mode="ar") == _tokens(loaded, mode="dflash") != []
        sampled = SamplingParams(temperature=1.0, top_p=0.9, top_k=20, seed=3)
        assert _tokens(loaded, sampling=sampled) == _tokens(loaded, sampling=sampled)
    finally:
        loaded.close()


def test_another_drafter_keeps_the_target_and_closing_both_frees_it(
    backend: TorchBackend, pair: Pair, make_drafter: Callable[..., Any], tmp_path: Path
) -> None:
    first = backend.load(pair, CPU)
    other = make_drafter(96, num_hidden_layers=1)
    save_drafter(other, tmp_path / "other")
    second = backend.load(
        pair.model_copy(update={"drafter": ModelRef(path=str(tmp_path / "other"))}), CPU
    )
    (target,) = backend._targets.values()
    expected = _tokens(second, mode="ar")
    first.close()
    assert _tokens(second, mode="dflash") == expected
    assert (second.path, second.drafter_path) == ("static cache", "static cache")
    assert second.memory_bytes() > target.memory_bytes() > 0
    del target
    second.close()
    assert len(backend._targets) == 0


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({"num_threads": 1}, True),
        ({"drafter": False}, True),
        ({"drafter_quantization": "nf4"}, True),
        ({"dtype": "float32"}, True),  # what a CPU chooses
        ({"dtype": "float16"}, False),
        ({"quantization": "nf4"}, False),
        ({"snapshot": True}, False),
        ({"device": "auto"}, False),
        ({"device": "auto", "max_memory_bytes": 1}, False),
    ],
)
def test_a_target_is_shared_where_no_option_makes_another(
    backend: TorchBackend, pair: Pair, change: dict[str, Any], shared: bool
) -> None:
    first = backend.load(pair, CPU)
    second = backend.load(pair, replace(CPU, **change))
    assert len(backend._targets) == (1 if shared else 2)
    assert _tokens(first, mode="ar") != []
    first.close()
    second.close()


def test_a_loaded_pair_tells_how_it_was_loaded(backend: TorchBackend, pair: Pair) -> None:
    options = replace(CPU, dtype="bfloat16", snapshot=True, drafter_quantization="int8")
    loaded = backend.load(pair, options)
    assert (loaded.rollback_kind, loaded.dtype) == ("snapshot", "bfloat16")
    assert (loaded.quantization, loaded.drafter_quantization) == (None, "int8")
    rounding, slow = loaded.warnings
    assert rounding.startswith("In bfloat16, DFlash and plain decoding may differ")
    assert "goes back by snapshots" in slow
    loaded.close()


@pytest.mark.parametrize("block_size", [2, 5, 32, 64])
def test_blocks_below_and_above_the_trained_size_are_lossless(
    backend: TorchBackend, pair: Pair, block_size: int
) -> None:
    loaded = backend.load(pair, CPU)
    request = GenerationRequest(
        (Message("user", "w1 w2 w3"),), max_new_tokens=80, block_size=block_size
    )
    steps = [event for event in loaded.stream(request) if isinstance(event, StepDone)]
    assert max(len(step.drafted_ids) for step in steps) == block_size - 1
    found = [token for step in steps for token in step.token_ids]
    assert found[:39] == _tokens(loaded, mode="ar")
    loaded.close()


def test_the_target_alone_needs_no_drafter_on_disk(backend: TorchBackend, pair: Pair) -> None:
    shutil.rmtree(str(pair.drafter and pair.drafter.path))
    with pytest.raises(PairNotReady):
        backend.load(pair, CPU)
    loaded = backend.load(pair, LoadOptions(device="cpu", drafter=False))
    try:
        assert loaded.block_size is None
        assert _tokens(loaded, mode="ar")
    finally:
        loaded.close()


def test_threads_are_set_for_the_worker_alone(backend: TorchBackend, pair: Pair) -> None:
    loaded = backend.load(pair, LoadOptions(device="cpu", num_threads=2))
    try:
        assert loaded._worker.call(torch.get_num_threads) == 2  # type: ignore[attr-defined]
    finally:
        loaded.close()


def test_a_failed_load_leaves_no_thread_behind(backend: TorchBackend, pair: Pair) -> None:
    import threading

    before = {thread.ident for thread in threading.enumerate()}
    (Path(str(pair.target.path)) / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(LoadError, match="download it again"):
        backend.load(pair, CPU)
    with pytest.raises(BackendUnavailable, match="CUDA device 99"):
        backend.load(pair, LoadOptions(device="cuda:99"))
    assert {thread.ident for thread in threading.enumerate()} <= before


def test_a_damaged_tokenizer_is_named(backend: TorchBackend, pair: Pair) -> None:
    (Path(str(pair.target.path)) / "tokenizer.json").write_text("{")
    with pytest.raises(LoadError, match=r"tokenizer in .* cannot be loaded"):
        backend.load(pair, CPU)


def test_registering_the_backend_imports_no_tensor_library() -> None:
    code = (
        "import sys; from dflash_app.backends.torch import builtin;"
        "(b,) = builtin.register_backends(); assert b.unavailable_reason() is None;"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=250)


def test_the_drafter_module_needs_nothing_of_the_app_but_its_errors() -> None:
    code = (
        "import sys; import dflash_app.backends.torch.dflash;"
        "mine = {n for n in sys.modules if n.startswith('dflash_app')};"
        "known = ('dflash_app', 'dflash_app.errors', 'dflash_app.hub',"
        "'dflash_app.hub.capacity');"
        "assert all(n in known or n.startswith(('dflash_app.backends', 'dflash_app.drafters'))"
        " for n in mine), mine"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=250)
