"""Tiny random models, made here: real code paths in milliseconds."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from dflash_app.backends.torch.decode_path import fastest_drafter, fastest_target
from dflash_app.backends.torch.dflash import DFlashConfig, DFlashDrafter
from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.selftest import decoding
from dflash_app.backends.torch.selftest.decoding import Decoded
from dflash_app.backends.torch.target import TorchTarget

BLOCK_SIZE = 16


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _target(family: str, vocab_size: int, **changes: Any) -> TorchTarget:
    shape: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        **changes,
    }
    torch.manual_seed(1)
    if family == "qwen3":
        model: Any = Qwen3ForCausalLM(Qwen3Config(**shape))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return TorchTarget(model.eval().requires_grad_(False))


def _drafter(vocab_size: int, **changes: Any) -> DFlashDrafter:
    raw: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rope_theta": 10_000.0,
        "num_target_layers": 4,
        "dflash_config": {
            "block_size": BLOCK_SIZE,
            "mask_token_id": vocab_size - 1,
            "target_layer_ids": [0, 2, 3],
        },
        **changes,
    }
    torch.manual_seed(2)
    return DFlashDrafter(DFlashConfig.from_dict(raw)).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def make_target() -> Callable[..., TorchTarget]:
    return _target


@pytest.fixture(scope="session")
def make_drafter() -> Callable[..., DFlashDrafter]:
    return _drafter


@pytest.fixture(scope="session", params=["qwen3", "llama"])
def dense_family(request: pytest.FixtureRequest) -> str:
    """Those that have a fast path."""
    return str(request.param)


@pytest.fixture(scope="session", params=[False, True], ids=["modules", "fast"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Which path decodes."""
    return bool(request.param)


@pytest.fixture(scope="session")
def models(dense_family: str, fast: bool) -> TorchModels:
    target = fastest_target(_target(dense_family, 96), fast=fast)
    return TorchModels(target, fastest_drafter(_drafter(96), fast=fast))


@pytest.fixture(scope="session")
def reference(dense_family: str) -> Any:
    """The target of `models` as transformers runs it."""
    return _target(dense_family, 96).model


@pytest.fixture(scope="session")
def run_lane() -> Callable[..., Decoded]:
    """Whole blocks unless the test says otherwise."""
    return partial(decoding.run_lane, num_draft=BLOCK_SIZE - 1)
