"""Pairs with random weights in published shapes: their steps cost what the real ones' do.

`shapes.json` holds the configs. Every parameter count is the published one: 4.02 and 8.19 billion
for Qwen3 4B and 8B, 30.5 for the coder, and the
drafters' are those that `size_bytes` in model_registry.yaml tells.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from dflash_app.backends.torch.decode_path import fastest_drafter, fastest_target
from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.backends.torch.dflash2 import new_drafter
from dflash_app.backends.torch.models import TorchModels
from dflash_app.backends.torch.target import TorchTarget
from dflash_app.drafters.config import DFlashConfig
from dflash_app.errors import RequestError

FILE = Path(__file__).parent / "shapes.json"


@dataclass(frozen=True, slots=True)
class RandomPair:
    """A pair that says nothing that makes sense.

    Attributes:
        model: the target, from transformers.
        drafter: ours.
    """

    model: Any
    drafter: DFlashDrafter


def build_pair(shape: str, device: torch.device, dtype: torch.dtype) -> RandomPair:
    """A pair on its device, in eval mode.

    Args:
        shape: a key of `shapes.json`.
        device: where to make the weights.
        dtype: of the weights.

    Raises:
        RequestError: there is no such shape.
    """
    shapes = _read()
    if shape not in shapes:
        raise RequestError(f"There is no shape {shape!r}: use {', '.join(shapes)}.")
    configs: Any = AutoConfig
    models: Any = AutoModelForCausalLM
    config = configs.for_model(**shapes[shape]["target"], bos_token_id=None, eos_token_id=None)
    drafter_config = DFlashConfig.from_dict(shapes[shape]["drafter"])
    torch.manual_seed(0)
    with torch.device(device):
        model = models.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
        drafter = new_drafter(drafter_config, "sdpa").to(dtype).eval()
    return RandomPair(model.requires_grad_(False), drafter.requires_grad_(False))


def our_models(pair: RandomPair) -> TorchModels:
    """The pair as the app decodes it, on the fastest path there is; takes its weights over."""
    return TorchModels(fastest_target(TorchTarget(pair.model)), fastest_drafter(pair.drafter))


def another(pair: RandomPair) -> RandomPair:
    """The same weights once more, for loops that are not ours.

    A GPU that has no room for a second target shares it: what our path does to a target of that
    size (experts) leaves it as it was.
    """
    drafter, model = copy.deepcopy(pair.drafter), pair.model
    size = sum(weight.nbytes for weight in model.parameters())
    if model.device.type != "cuda" or torch.cuda.mem_get_info(model.device)[0] > 1.2 * size:
        model = copy.deepcopy(model)
    return RandomPair(model, drafter)


def target_bytes(model: Any, num_tokens: int) -> float:
    """Weights that a forward reads, the least there are.

    Of experts, those that tokens routed at random choose: all tokens together, each once.

    Args:
        model: the target.
        num_tokens: of the forward.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = embedding.weight is head.weight
    total = 0.0
    for name, weight in model.named_parameters():
        if weight is embedding.weight and not tied:
            continue  # a row a token
        total += weight.nbytes * (_chosen(model.config, num_tokens) if ".experts." in name else 1.0)
    return total


def draft_bytes(pair: RandomPair) -> int:
    """Weights that a draft and its context read: the drafter's, and the head it borrows."""
    own = sum(weight.nbytes for weight in pair.drafter.parameters())
    return int(own + pair.model.get_output_embeddings().weight.nbytes)


def kv_bytes(model: Any) -> int:
    """Keys and values of one token in the layers that attend to all tokens."""
    config = model.config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    width = 2 * config.num_key_value_heads * config.head_dim * model.dtype.itemsize
    return int(kinds.count("full_attention") * width)


def draft_kv_bytes(config: DFlashConfig, dtype: torch.dtype) -> Callable[[int], int]:
    """Keys and values that a draft reads after so many tokens, its layers' windows kept to."""
    width = 2 * config.num_key_value_heads * config.head_dim * dtype.itemsize
    windows = [rule.window for rule in config.attention_rules]
    return lambda length: width * sum(min(length, window or length) for window in windows)


def random_ids(vocab_size: int, count: int, seed: int = 0) -> list[int]:
    """A prompt."""
    generator = torch.Generator().manual_seed(seed)
    ids: Tensor = torch.randint(4, vocab_size, (count,), generator=generator)
    return list(ids.tolist())


def _chosen(config: Any, num_tokens: int) -> float:
    """Share of the experts that at least one of the tokens chooses."""
    return float(1.0 - (1.0 - config.num_experts_per_tok / config.num_experts) ** num_tokens)


def _read() -> dict[str, dict[str, dict[str, Any]]]:
    shapes: dict[str, dict[str, dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return shapes
