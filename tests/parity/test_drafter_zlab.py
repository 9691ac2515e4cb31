"""Our drafter against z-lab's own code (dflash 0.1.0) on the same weights, fp32."""

from typing import Any

import pytest
import torch
from dflash.model import DFlash2DraftModel, DFlashDraftModel
from transformers import DynamicCache
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config

from dflash_app.backends.torch.dflash import DFlashConfig, DFlashDrafter
from dflash_app.backends.torch.dflash2 import DFlash2Drafter, new_drafter

VOCAB = 64
SHAPE: dict[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "num_target_layers": 6,
    "rms_norm_eps": 1e-5,
}


def _own(block_size: int = 8, **changes: Any) -> dict[str, Any]:
    return {
        "block_size": block_size,
        "mask_token_id": 60,
        "target_layer_ids": [0, 2, 5],
        **changes,
    }


def _layers(pattern: str, window: int = 11) -> dict[str, Any]:
    """ "s" slides and "f" is full: the patterns of ../shared/pairs.yaml, shorter."""
    names = {"s": "sliding_attention", "f": "full_attention"}
    return {
        "num_hidden_layers": len(pattern),
        "layer_types": [names[letter] for letter in pattern],
        "use_sliding_window": "s" in pattern,
        "sliding_window": window if "s" in pattern else None,
    }


THETA = {"rope_theta": 10_000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
DFLASH2 = {"conv_kernel_size": 2, "conv_group_size": 8, "selector_rank": 5, "selector_top_k": 16}
MUSE_LOGITS = {"output_multiplier": 0.196, "final_logit_softcapping": 20}
CONFIGS: dict[str, dict[str, Any]] = {
    "full, nested keys (Qwen3)": {"dflash_config": _own(16), **THETA},
    "full, flat keys (Llama)": {**_own(10), "rope_parameters": {"rope_theta": 50_000.0}},
    "sliding causal, then one full (Qwen3.5)": {"dflash_config": _own(16), **_layers("ssf")}
    | THETA,
    "sliding causal, all": {"dflash_config": _own(), **_layers("sss"), **THETA},
    "sliding non-causal, all": {**_own(), **_layers("sss"), "is_causal": False, **THETA},
    "sliding and full, all non-causal": {**_own(), **_layers("sf"), "is_causal": False, **THETA},
    "window narrower than the block": {**_own(), **_layers("sf", 5), "is_causal": False, **THETA},
    "all causal": {**_own(), "is_causal": True, **THETA},
    "yarn (gpt-oss)": {**_own(8), "rope_parameters": {**YARN, **THETA}, "num_attention_heads": 8},
    "yarn, old keys (Kimi)": {
        "dflash_config": _own(8),
        "rope_theta": 50_000.0,
        "rope_scaling": {"type": "yarn", "factor": 64.0, "original_max_position_embeddings": 32}
        | {"beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0},
    },
    "bias, odd head size": {**_own(), "attention_bias": True, "head_dim": 12, **THETA},
    "scaled and capped logits": {"dflash_config": _own(**MUSE_LOGITS), **THETA},
    "DFlash 2 (Qwen3.8)": {
        "architectures": ["DFlash2DraftModel"],
        "dflash_config": _own(8, **DFLASH2),
        **_layers("sss"),
        "is_causal": False,
        **THETA,
    },
    "DFlash 2 (Muse-Glimmer), three taps": {
        "architectures": ["DFlash2DraftModel"],
        "dflash_config": _own(16, **DFLASH2 | {"conv_kernel_size": 3}, **MUSE_LOGITS),
        **_layers("ss", 9),
        "is_causal": False,
        **THETA,
    },
}
DFLASH2_CONFIGS = [name for name in CONFIGS if name.startswith("DFlash 2")]


def _pair(raw: dict[str, Any], attention: Any = "sdpa") -> tuple[DFlashDraftModel, DFlashDrafter]:
    torch.manual_seed(0)
    model = DFlash2DraftModel if "architectures" in raw else DFlashDraftModel
    theirs = model(Qwen3Config(**raw)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    ours = new_drafter(DFlashConfig.from_dict(raw), attention).eval()
    state = {
        name.replace("codebook.weight", "codebook"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    ours.load_state_dict(state)
    return theirs, ours


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_growing_context_gives_zlabs_hidden_states_at_every_step(name: str, attention: str) -> None:
    raw = {**SHAPE, **CONFIGS[name]}
    theirs, ours = _pair(raw, attention)
    width = theirs.block_size
    assert width == ours.config.block_size
    cache = DynamicCache(config=theirs.config)
    cache.activate_past_recording()
    context: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    start = 0
    for appended in (9, 1, 5, 3, 14):
        tapped = torch.randn(1, appended, 3 * 32)
        block = torch.randn(1, width, 32)
        expected = theirs(
            target_hidden=tapped,
            noise_embedding=block,
            position_ids=torch.arange(start, start + appended + width)[None],
            past_key_values=cache,
            use_cache=True,
        )[:, 1:]
        cache.crop(-width)
        new = ours.project_context(tapped, torch.arange(start, start + appended))
        context = (
            new
            if context is None
            else [
                (torch.cat([k, nk], 2), torch.cat([v, nv], 2))
                for (k, v), (nk, nv) in zip(context, new, strict=True)
            ]
        )
        start += appended
        actual = ours.draft(block, context, start)
        assert torch.allclose(actual, expected, atol=1e-4), (actual - expected).abs().max()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_many_blocks_at_once_equal_each_block_drafted_alone(name: str, attention: Any) -> None:
    _, ours = _pair({**SHAPE, **CONFIGS[name]}, attention)
    length, width, anchors = 40, ours.config.block_size, [3, 14, 22]
    tapped = torch.randn(1, length, 3 * 32)
    blocks = torch.randn(1, len(anchors) * width, 32)
    block_positions = torch.cat([torch.arange(a, a + width) for a in anchors])
    owner = torch.arange(len(anchors)).repeat_interleave(width)
    mask = torch.cat(
        [
            torch.arange(length)[None] < torch.tensor(anchors)[owner][:, None],
            owner[:, None] == owner[None, :],
        ],
        dim=1,
    )
    together = ours(blocks, tapped, torch.arange(length), block_positions, mask[None, None])
    additive = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
    again = ours(blocks, tapped, torch.arange(length), block_positions, additive)
    for index, anchor in enumerate(anchors):
        context = ours.project_context(tapped[:, :anchor], torch.arange(anchor))
        rows = slice(index * width, (index + 1) * width)
        drafts = slice(rows.start + 1, rows.stop)
        alone = ours.draft(blocks[:, rows], context, anchor)
        assert torch.allclose(together[:, drafts], alone, atol=1e-4)
        assert torch.allclose(again[:, drafts], alone, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_logits_are_zlabs_with_their_multiplier_and_cap(name: str) -> None:
    theirs, ours = _pair({**SHAPE, **CONFIGS[name]})
    head = torch.nn.Linear(32, VOCAB, bias=False)
    torch.nn.init.normal_(head.weight, std=3.0)
    hidden = torch.randn(1, 7, 32)
    expected = theirs.compute_logits(hidden, head)
    assert torch.allclose(ours.logits(hidden, head), expected, atol=1e-4)
    if "final_logit_softcapping" in str(CONFIGS[name]):
        assert head(hidden).abs().max() > 20 > expected.abs().max()


@pytest.mark.parametrize("name", DFLASH2_CONFIGS)
@torch.inference_mode()
def test_the_selector_walks_zlabs_path_from_every_anchor(name: str) -> None:
    theirs, ours = _pair({**SHAPE, **CONFIGS[name]})
    assert isinstance(ours, DFlash2Drafter)
    head = torch.nn.Linear(32, VOCAB, bias=False)
    paths, plain = set(), 0
    for anchor in range(VOCAB):
        hidden = torch.randn(1, ours.config.block_size - 1, 32)
        anchor_id = torch.tensor([anchor])
        expected, _, _ = theirs.propose(hidden, anchor_id, head, 0.0)
        actual = ours.propose(hidden[0], anchor_id, head, None)
        assert actual.token_ids.tolist() == expected[0].tolist()
        assert actual.probs is None
        paths.add(tuple(actual.token_ids.tolist()))
        plain += actual.token_ids.tolist() == ours.logits(hidden, head)[0].argmax(-1).tolist()
    assert len(paths) == VOCAB
    assert plain < VOCAB / 2  # or the selector would decide nothing


@pytest.mark.parametrize("name", DFLASH2_CONFIGS)
@torch.inference_mode()
def test_sampled_drafts_come_with_zlabs_q_after_the_token_drawn_before(name: str) -> None:
    theirs, ours = _pair({**SHAPE, **CONFIGS[name]})
    head = torch.nn.Linear(32, VOCAB, bias=False)
    hidden = torch.randn(1, ours.config.block_size - 1, 32)
    logits = theirs.compute_logits(hidden, head)

    def sampler(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        probs = (scores / 0.7).softmax(-1)
        return probs, probs.multinomial(1)[:, 0]

    for anchor in (3, 40):
        before = torch.tensor([anchor])
        proposal = ours.propose(hidden[0], before, head, sampler)
        assert proposal.probs is not None
        for slot, token_id in enumerate(proposal.token_ids):
            here = slice(slot, slot + 1)
            _, candidates, q = theirs.candidate_selector.select(
                hidden[:, here], logits[:, here], before, 0.7
            )
            expected = torch.zeros(VOCAB).scatter(0, candidates[0, 0], q[0, 0])
            assert torch.allclose(proposal.probs[slot], expected, atol=1e-5)
            assert proposal.confidences[slot] == proposal.probs[slot, token_id] > 0
            before = token_id[None]
