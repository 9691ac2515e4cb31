"""Our MLX drafter against our PyTorch one and z-lab's `dflash.model_mlx`, same weights, fp32."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from dflash import model_mlx
from mlx import nn
from safetensors.torch import save_file
from torch import Tensor

from dflash_app.backends.mlx.context import ContextCache
from dflash_app.backends.mlx.dflash import DFlashDrafter
from dflash_app.backends.mlx.loading import load_drafter
from dflash_app.backends.torch.dflash import DFlashConfig
from dflash_app.backends.torch.dflash import DFlashDrafter as TorchDrafter
from dflash_app.backends.torch.dflash2 import new_drafter
from dflash_app.backends.torch.selector import walk
from tests.parity.test_drafter_zlab import CONFIGS, DFLASH2_CONFIGS, SHAPE, VOCAB

APPENDED = (9, 1, 5, 3, 14)
HIDDEN = SHAPE["hidden_size"]
SAME_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "rms_norm_eps",
    "max_position_embeddings",
    "block_size",
    "target_layer_ids",
    "mask_token_id",
    "final_logit_softcapping",
    "input_embedding_scale",
    "output_multiplier",
)
_NARROW = "a window narrower than the block, which it does not apply inside the block"
OTHERWISE_IN_ZLABS_MLX = {
    "window narrower than the block": _NARROW,
    "sliding causal, then one full (Qwen3.5)": _NARROW,
    "DFlash 2 (Muse-Glimmer), three taps": _NARROW,
    "bias, odd head size": "it has no biases",
}
"""Configs in which it differs from z-lab's own PyTorch code, which is the one to equal."""


def _pair(name: str, folder: Path) -> tuple[TorchDrafter, DFlashDrafter]:
    """The same random drafter in both, through the files that a user would download."""
    raw = {**SHAPE, **CONFIGS[name]}
    torch.manual_seed(0)
    ours = new_drafter(DFlashConfig.from_dict(raw)).eval().requires_grad_(False)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    (folder / "config.json").write_text(json.dumps(raw))
    state = {key: tensor.contiguous() for key, tensor in ours.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return ours, load_drafter(folder, mx.float32)


def _array(tensor: Tensor) -> mx.array:
    return mx.array(tensor.numpy())


def _close(found: mx.array, expected: Any) -> None:
    wanted = expected.numpy() if isinstance(expected, Tensor) else np.array(expected)
    np.testing.assert_allclose(np.array(found), wanted, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_those_of_the_torch_drafter_at_every_step(name: str, tmp_path: Path) -> None:
    reference, ours = _pair(name, tmp_path)
    width, position = ours.config.block_size, 0
    context, known = ContextCache(), torch.empty(1, 0, 3 * HIDDEN)
    for appended in APPENDED:
        tapped, block = torch.randn(1, appended, 3 * HIDDEN), torch.randn(1, width, HIDDEN)
        known = torch.cat([known, tapped], dim=1)
        position += appended
        expected = reference.draft(
            block, reference.project_context(known, torch.arange(position)), position
        )
        context.append(ours.project_context(_array(tapped), context.length))
        _close(ours.draft(_array(block), context, position), expected)
        assert context.length == position


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in OTHERWISE_IN_ZLABS_MLX])
def test_logits_are_those_of_zlabs_mlx_drafter_at_every_step(name: str, tmp_path: Path) -> None:
    _, ours = _pair(name, tmp_path)
    config = ours.config
    embedding, head = nn.Embedding(VOCAB, HIDDEN), nn.Linear(HIDDEN, VOCAB, bias=False)
    theirs = _zlabs(ours, tmp_path)
    theirs.embed_tokens, theirs.lm_head = embedding, head
    cache, context = theirs.make_cache(), ContextCache()
    ids = [7] + [config.mask_token_id] * (config.block_size - 1)
    for appended in APPENDED:
        tapped = mx.random.normal((1, appended, 3 * HIDDEN))
        context.append(ours.project_context(tapped, context.length))
        hidden = ours.draft(ours.embed(mx.array([ids]), embedding), context, context.length)
        _close(ours.logits(hidden, head), theirs(mx.array([ids]), tapped, cache, logits_start=1))


@pytest.mark.parametrize("name", DFLASH2_CONFIGS)
def test_the_selector_walks_the_torch_drafters_path_from_every_anchor(
    name: str, tmp_path: Path
) -> None:
    reference, ours = _pair(name, tmp_path)
    weight = torch.randn(VOCAB, HIDDEN)
    paths = set()
    for anchor in range(VOCAB):
        hidden = torch.randn(num_drafts(ours), HIDDEN)
        expected = reference.propose(
            hidden, torch.tensor([anchor]), lambda states: states @ weight.T, None
        )
        found = ours.propose(
            _array(hidden), mx.array([anchor]), lambda states: states @ _array(weight).T, None
        )
        assert found.token_ids.tolist() == expected.token_ids.tolist()
        assert expected.confidences is not None
        _close(found.confidences, expected.confidences)
        paths.add(tuple(expected.token_ids.tolist()))
    assert len(paths) > VOCAB / 2


@pytest.mark.parametrize("name", DFLASH2_CONFIGS)
def test_sampled_drafts_come_with_the_q_of_the_rows_they_passed(name: str, tmp_path: Path) -> None:
    reference, ours = _pair(name, tmp_path)
    weight, hidden = torch.randn(VOCAB, HIDDEN), torch.randn(num_drafts(ours), HIDDEN)
    drawn = torch.randint(0, 16, (len(hidden) * 16,))

    def torch_sampler(scores: Tensor) -> tuple[Tensor, Tensor]:
        return (scores / 0.7).softmax(-1), drawn

    def sampler(scores: mx.array) -> tuple[mx.array, mx.array]:
        return mx.softmax(scores / 0.7, axis=-1), _array(drawn).astype(mx.int32)

    expected = reference.propose(
        hidden, torch.tensor([5]), lambda states: states @ weight.T, torch_sampler
    )
    found = ours.propose(
        _array(hidden), mx.array([5]), lambda states: states @ _array(weight).T, sampler
    )
    assert len(set(walk(drawn.view(-1, 16))[0].tolist())) > 1
    assert found.token_ids.tolist() == expected.token_ids.tolist()
    assert found.probs is not None
    _close(found.probs, expected.probs)
    _close(found.confidences, expected.confidences)


def num_drafts(drafter: DFlashDrafter) -> int:
    return drafter.config.block_size - 1


def _zlabs(ours: DFlashDrafter, folder: Path) -> Any:
    """Their drafter with the weights of those files: their own `load_draft` wants a repository."""
    config, selector = ours.config, ours.config.selector
    rope = dict(config.rope_parameters)
    sliding = [rule.window is not None for rule in config.attention_rules]
    settled = model_mlx.DFlashConfig(
        **{name: getattr(config, name) for name in SAME_KEYS},
        num_target_layers=6,
        rope_theta=rope["rope_theta"],
        rope_scaling=rope,
        layer_types=tuple("sliding_attention" if each else "full_attention" for each in sliding),
        sliding_window=next((rule.window for rule in config.attention_rules if rule.window), None),
        is_causal=json.loads((folder / "config.json").read_text()).get("is_causal"),
    )
    weights = dict(mx.load(str(folder / "model.safetensors")))
    if selector is None:
        theirs = model_mlx.DFlashDraftModel(settled)
    else:
        settled.conv_kernel_size = selector.conv_kernel_size
        settled.conv_group_size = selector.conv_group_size
        settled.selector_rank, settled.selector_top_k = selector.rank, selector.top_k
        theirs = model_mlx.DFlash2DraftModel(settled)
        for part in ("predecessor_codebook", "successor_codebook"):
            key = f"candidate_selector.{part}"
            weights[f"{key}.weight"] = weights.pop(key)
    theirs.eval()
    theirs.load_weights(list(weights.items()))
    return theirs
