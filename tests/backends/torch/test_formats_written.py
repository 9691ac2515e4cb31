"""Every format through real files in its own layout: what is loaded drafts as what was written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dflash_app.backends.torch.checkpoint import load_drafter, save_drafter
from dflash_app.backends.torch.dflash import DFlashDrafter
from dflash_app.backends.torch.loading import load_models
from dflash_app.backends.torch.models import TorchModels
from dflash_app.drafters.config import AttentionRule
from dflash_app.engine.protocol import LoadOptions
from dflash_app.errors import LoadError, UnsupportedFormat
from dflash_app.request import SamplingParams
from tests.backends.torch.drafter_files import (
    DFLASH2,
    LAYER,
    SLIDING,
    VOCAB,
    random_drafter,
    speculators_config,
    write_block7,
    write_drafter,
)

CPU = torch.device("cpu")


def _drafted(drafter: DFlashDrafter, width: int = 8) -> Tensor:
    """States of the drafts after a context of 20 tokens."""
    torch.manual_seed(6)
    context = drafter.project_context(torch.randn(1, 20, 3 * 32), torch.arange(20))
    return drafter.draft(torch.randn(1, width, 32), context, 20)


@pytest.mark.parametrize(
    "said",
    [
        {},
        SLIDING,
        {**SLIDING, "is_causal": False},
        {"sample_from_anchor": True},
        {"output_multiplier": 0.2, "final_logit_softcapping": 15.0, "input_embedding_scale": 5.0},
        {"architectures": ["DFlash2DraftModel"], **DFLASH2},
    ],
)
def test_zlabs_format_survives_writing_and_reading(said: dict[str, Any], tmp_path: Path) -> None:
    drafter = random_drafter(num_target_layers=4, **said)
    save_drafter(drafter, tmp_path)
    again = load_drafter(tmp_path, CPU, torch.float32)
    assert again.config == drafter.config
    assert type(again) is type(drafter)
    assert torch.equal(_drafted(again), _drafted(drafter))
    assert again.state_dict().keys() == drafter.state_dict().keys()


def test_a_dflash2_in_bfloat16_drafts_as_in_float32_but_for_rounding(tmp_path: Path) -> None:
    save_drafter(
        random_drafter(architectures=["DFlash2DraftModel"], **DFLASH2), tmp_path, torch.bfloat16
    )
    full, half = (load_drafter(tmp_path, CPU, dtype) for dtype in (torch.float32, torch.bfloat16))
    torch.manual_seed(6)
    tapped, block = torch.randn(1, 20, 3 * 32), torch.randn(1, 8, 32)
    context = half.project_context(tapped.bfloat16(), torch.arange(20))
    drafted = half.draft(block.bfloat16(), context, 20)
    assert drafted.dtype == torch.bfloat16
    cosine = F.cosine_similarity(drafted.float(), _drafted(full), dim=-1)
    assert cosine.min() > 0.99
    head = torch.nn.Linear(32, VOCAB, bias=False, dtype=torch.bfloat16)
    proposal = half.propose(drafted[0], torch.tensor([3]), head, None)
    assert proposal.confidences.dtype == torch.float32
    assert proposal.token_ids.shape == (7,)


def test_a_yarn_whose_figures_transformers_doubts_loads_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    yarn = {"type": "yarn", "factor": 64.0, "original_max_position_embeddings": 32}
    save_drafter(random_drafter(rope_scaling=yarn, max_position_embeddings=512), tmp_path)
    loaded = load_drafter(tmp_path, CPU, torch.float32)
    assert loaded.config.rope_parameters["rope_type"] == "yarn"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("causal", [False, True])
def test_model_optimizers_windows_and_causality_are_read(causal: bool, tmp_path: Path) -> None:
    expected = random_drafter(
        layer_types=["sliding_attention"] * 2,
        use_sliding_window=True,
        sliding_window=6,
        is_causal=causal,
    )
    config = {
        **LAYER,
        "architectures": ["DFlashDraftModel"],
        "model_type": "qwen3",
        "block_size": 8,
        "layer_types": ["full_attention"] * 2,
        "rope_theta": 10_000.0,
        "rope_scaling": None,
        "sliding_window": 6,
        "num_target_layers": 4,
        "dflash_config": {
            "mask_token_id": 95,
            "target_layer_ids": [0, 2, 3],
            "use_swa": True,
            "swa_window_size": 6,
            "causal": causal,
        },
    }
    drafter = load_drafter(
        write_drafter(tmp_path, config, expected.state_dict()), CPU, torch.float32
    )
    assert drafter.config.attention_rules == (AttentionRule(causal, 6),) * 2
    assert torch.equal(_drafted(drafter), _drafted(expected))


def test_specforges_auto_map_is_dropped_and_its_file_never_run(tmp_path: Path) -> None:
    expected = random_drafter(num_target_layers=4)
    config = {
        **expected.config.to_dict(),
        "auto_map": {"AutoModel": "modeling_dflash.DFlashDraftModel"},
        "max_window_layers": 2,
        "use_cache": True,
    }
    write_drafter(tmp_path, config, expected.state_dict())
    (tmp_path / "modeling_dflash.py").write_text("raise SystemExit('remote code ran')")
    drafter = load_drafter(tmp_path, CPU, torch.float32)
    assert drafter.config == expected.config
    assert torch.equal(_drafted(drafter), _drafted(expected))


def test_speculators_with_a_draft_vocabulary_drafts_its_tokens_and_no_others(
    tmp_path: Path,
) -> None:
    expected = random_drafter()
    known = torch.tensor([2, 3, 5, 7, 11, 40, 41, 90])
    head, embedding = torch.randn(8, 32), torch.randn(VOCAB, 32)
    state = {
        **expected.state_dict(),
        "lm_head.weight": head,
        "embed_tokens.weight": embedding,
        "d2t": known - torch.arange(8),
        "t2d": torch.zeros(VOCAB, dtype=torch.bool).index_fill(0, known, True),
        "verifier_norm.weight": torch.ones(32),
        "verifier_lm_head.weight": torch.full((8, 32), float("nan")),
    }
    write_drafter(tmp_path, speculators_config(draft_vocab_size=8), state)
    drafter = load_drafter(tmp_path, CPU, torch.float32)
    assert drafter.config == replace(
        expected.config, own_embedding=True, own_head=True, draft_vocab_size=8
    )
    assert torch.equal(_drafted(drafter), _drafted(expected))
    wrong = torch.nn.Linear(32, VOCAB)
    ids = torch.tensor([4, 95])
    assert torch.equal(drafter.embed(ids, wrong.weight), embedding[ids])
    hidden = torch.randn(7, 32)
    logits = drafter.logits(hidden, wrong)
    assert logits.shape == (7, VOCAB)
    assert torch.equal(logits[:, known], F.linear(hidden, head))
    assert logits.isfinite().sum() == 7 * 8
    assert set(drafter.propose(hidden, ids[:1], wrong, None).token_ids.tolist()) <= set(
        known.tolist()
    )
    half = load_drafter(tmp_path, CPU, torch.bfloat16)
    assert torch.equal(half.d2t, state["d2t"])
    with pytest.raises(LoadError, match="cannot be saved"):
        save_drafter(drafter, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("non_causal", [False, True])
def test_speculators_layers_slide_causally_unless_told_otherwise(
    non_causal: bool, tmp_path: Path
) -> None:
    said = {**SLIDING, "is_causal": False} if non_causal else SLIDING
    expected = random_drafter(**said)
    config = speculators_config(sliding_window_non_causal=non_causal)
    config["transformer_layer_config"] |= SLIDING
    drafter = load_drafter(
        write_drafter(tmp_path, config, expected.state_dict()), CPU, torch.float32
    )
    assert drafter.config == expected.config
    assert torch.equal(_drafted(drafter), _drafted(expected))


def test_speculators_leave_out_what_is_the_layer_types_default(tmp_path: Path) -> None:
    config = speculators_config()
    del config["transformer_layer_config"]["vocab_size"]  # Qwen3's own 151936
    config["transformer_layer_config"]["max_position_embeddings"] = 512
    drafter = load_drafter(
        write_drafter(tmp_path, config, random_drafter().state_dict()), CPU, torch.float32
    )
    assert drafter.config.vocab_size == 151_936
    assert drafter.config.max_position_embeddings == 512


def test_speculators_second_generation_is_a_dflash2_that_looks_both_ways(tmp_path: Path) -> None:
    expected = random_drafter(
        architectures=["DFlash2DraftModel"], **DFLASH2, **SLIDING, is_causal=False
    )
    config = speculators_config(speculators_model_type="dflash2", **DFLASH2)
    config["transformer_layer_config"] |= SLIDING
    write_drafter(tmp_path, config, expected.state_dict())
    drafter = load_drafter(tmp_path, CPU, torch.float32)
    assert drafter.config == expected.config
    assert torch.equal(_drafted(drafter), _drafted(expected))
    known = {"lm_head.weight": torch.ones(8, 32), "d2t": torch.zeros(8, dtype=torch.int64)}
    write_drafter(tmp_path, config, {**expected.state_dict(), **known})
    with pytest.raises(UnsupportedFormat, match="draft vocabulary of its own"):
        load_drafter(tmp_path, CPU, torch.float32)


def test_deepspecs_block7_drafts_seven_tokens_from_seven_slots(tmp_path: Path) -> None:
    expected = write_block7(tmp_path)
    drafter = load_drafter(tmp_path, CPU, torch.float32)
    assert (drafter.config.block_size, drafter.config.num_slots) == (8, 7)
    assert drafter.config.drafts_from_anchor
    torch.manual_seed(6)
    tapped, blocks = torch.randn(1, 20, 3 * 32), torch.randn(1, 8, 32)
    positions = torch.arange(20)
    slots = expected(blocks[:, :7], tapped, positions, torch.arange(20, 27))
    drafts = drafter.draft(blocks, drafter.project_context(tapped, positions), 20)
    assert drafts.shape == (1, 7, 32)
    assert torch.allclose(drafts, slots, atol=1e-6)  # the anchor's slot included
    short = drafter.draft(blocks[:, :4], drafter.project_context(tapped, positions), 20)
    assert short.shape == (1, 3, 32)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_deepspecs_block7_runs_in_a_lane_with_its_own_head(
    temperature: float, make_target: Callable[..., Any], run_lane: Any, tmp_path: Path
) -> None:
    make_target("qwen3", VOCAB).model.save_pretrained(tmp_path / "target")
    write_block7(tmp_path / "drafter")
    options = LoadOptions(device="cpu")
    models = load_models(tmp_path / "target", tmp_path / "drafter", options)
    assert models.block_size == 8
    sampling = SamplingParams(temperature=temperature, seed=3)
    lane = models.open_lane(sampling, "dflash")
    decoded = run_lane(lane, [5, 17, 3, 42], 30, num_draft=7)
    assert max(len(step.drafted_ids) for step in decoded.steps) == 7
    if temperature == 0.0:
        plain = run_lane(models.open_lane(sampling, "ar"), [5, 17, 3, 42], 30, num_draft=0)
        assert decoded.token_ids == plain.token_ids


def test_a_drafter_with_its_own_embedding_is_not_swayed_by_the_targets(
    make_target: Callable[..., Any], tmp_path: Path
) -> None:
    write_block7(tmp_path)
    drafter = load_drafter(tmp_path, CPU, torch.float32)
    proposed = []
    for seed in (1, 2):
        target = make_target("qwen3", VOCAB)
        lane = TorchModels(target, drafter).open_lane(SamplingParams(), "dflash")
        lane.extend([5, 17, 3])
        lane.first_token()
        torch.manual_seed(seed)
        # Only now, so that context and anchor are the same both times.
        torch.nn.init.normal_(target.embedding)
        torch.nn.init.normal_(target.head.weight)
        proposed.append(lane.propose(7).token_ids.tolist())
    assert proposed[0] == proposed[1]
