"""z-lab's own loop (dflash 0.1.0) loads what we write and gives the tokens that we give."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dflash.model
import pytest
import torch
from dflash.model import DFlash2DraftModel, DFlashDraftModel, dflash_generate
from transformers import AutoConfig, Qwen3Config, Qwen3ForCausalLM

from dflash_app.backends.torch.checkpoint import load_drafter, save_drafter
from dflash_app.backends.torch.dflash import DFlashConfig, DFlashDrafter
from dflash_app.backends.torch.dflash2 import new_drafter
from dflash_app.backends.torch.loading import load_models
from dflash_app.backends.torch.target import load_target
from dflash_app.engine.policy import FixedDrafts
from dflash_app.engine.protocol import LoadOptions
from dflash_app.engine.speculative import decode
from dflash_app.events import PrefillDone, StepDone
from dflash_app.request import SamplingParams

PROMPT = [5, 17, 3, 42, 8, 11, 29]
CPU = torch.device("cpu")
RULES: dict[str, dict[str, Any]] = {
    "bidirectional": {},
    "sliding causal": {
        "layer_types": ["sliding_attention", "full_attention"],
        "use_sliding_window": True,
        "sliding_window": 9,
    },
    "sliding non-causal": {
        "layer_types": ["sliding_attention", "sliding_attention"],
        "use_sliding_window": True,
        "sliding_window": 9,
        "is_causal": False,
    },
    "causal": {"is_causal": True},
    "DFlash 2": {
        "architectures": ["DFlash2DraftModel"],
        "conv_kernel_size": 2,
        "conv_group_size": 8,
        "selector_rank": 4,
        "selector_top_k": 16,
    },
}


def _shape(layers: int) -> dict[str, Any]:
    return {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
    }


@pytest.fixture(scope="module")
def target_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    model = Qwen3ForCausalLM(Qwen3Config(**_shape(4), eos_token_id=None))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("target")
    model.save_pretrained(folder)
    return folder


def _write_drafter(folder: Path, target: Path, rules: dict[str, Any]) -> DFlashDrafter:
    """A drafter that learned the beginning of the target's answer, so that some drafts stand."""
    own = {"block_size": 8, "mask_token_id": 95, "target_layer_ids": [1, 3]}
    raw = {**_shape(2), "rope_theta": 1e4, "num_target_layers": 4, "dflash_config": own, **rules}
    torch.manual_seed(4)
    drafter = new_drafter(DFlashConfig.from_dict(raw), "eager")
    model = load_target(target, CPU, torch.float32)
    ids = torch.tensor(PROMPT)
    for _ in range(40):
        ids = torch.cat([ids, model.forward(ids, None, 1)[0].argmax(-1)])
    _, tapped = model.forward(ids, None, 1, drafter.config.target_layer_ids)
    anchors = torch.arange(len(PROMPT), len(PROMPT) + 16)
    positions = anchors[:, None] + torch.arange(8)
    owner = torch.arange(len(anchors)).repeat_interleave(8)
    mask = torch.cat(
        [torch.arange(len(ids)) < anchors[owner][:, None], owner[:, None] == owner], dim=1
    )
    blocks = torch.full_like(positions, 95)
    blocks[:, 0] = ids[anchors]
    embedded = drafter.embed(blocks.view(1, -1), model.embedding)
    optimizer = torch.optim.Adam(drafter.parameters(), lr=5e-3)
    for _ in range(40):
        hidden = drafter(embedded, tapped, torch.arange(len(ids)), positions.view(-1), mask)
        logits = drafter.logits(hidden, model.head).view(len(anchors), 8, -1)[:, 1:]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[positions[:, 1:]].flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_drafter(drafter, folder)
    return drafter


def _zlabs(folder: Path, name: str) -> DFlashDraftModel:
    model = DFlash2DraftModel if name == "DFlash 2" else DFlashDraftModel
    config = AutoConfig.from_pretrained(folder)
    return model.from_pretrained(folder, config=config, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("block_size", [None, 4])
def test_zlabs_dflash_generate_and_our_engine_give_the_same_tokens_and_acceptance(
    name: str,
    block_size: int | None,
    target_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dflash.model, "_cuda_time", lambda: 0.0)
    _write_drafter(tmp_path, target_dir, RULES[name])
    models = load_models(target_dir, tmp_path, LoadOptions(device="cpu"))
    theirs = _zlabs(tmp_path, name)
    expected = dflash_generate(
        theirs,
        load_target(target_dir, CPU, torch.float32).model,
        torch.tensor([PROMPT]),
        50,
        None,
        block_size=block_size,
        return_stats=True,
    )
    lane = models.open_lane(SamplingParams(), "dflash", block_size)
    tokens: list[int] = []
    steps: list[StepDone] = []
    for event in decode(
        lane,
        PROMPT,
        policy=FixedDrafts((block_size or 8) - 1),
        max_new_tokens=50,
        eos_ids=frozenset(),
        context_length=256,
        clock=lambda: 0.0,
        cancelled=lambda: False,
    ):
        if isinstance(event, PrefillDone):
            tokens.append(event.token_id)
        elif isinstance(event, StepDone):
            tokens.extend(event.token_ids)
            steps.append(event)
    assert tokens == expected.output_ids[0, len(PROMPT) :].tolist()
    # Both loops narrow their blocks at the end, each in its own way: compare the whole ones.
    whole = [step for step in steps if len(step.drafted_ids) == (block_size or 8) - 1]
    ours = [1 + step.num_accepted for step in whole]
    assert ours == expected.acceptance_lengths[: len(whole)]
    assert min(ours) < max(ours)  # or the two lists would say nothing


@pytest.mark.parametrize("name", RULES)
def test_a_checkpoint_survives_saving_and_loading_in_both_codes(
    name: str, target_dir: Path, tmp_path: Path
) -> None:
    drafter = _write_drafter(tmp_path, target_dir, RULES[name])
    again = load_drafter(tmp_path, CPU, torch.float32)
    assert again.config == drafter.config
    theirs = {
        name.replace("codebook.weight", "codebook"): tensor
        for name, tensor in _zlabs(tmp_path, name).state_dict().items()
    }
    for state in (again.state_dict(), theirs):
        assert set(state) == set(drafter.state_dict())
        for key, tensor in drafter.state_dict().items():
            assert torch.equal(state[key], tensor)
    save_drafter(drafter, tmp_path / "half", torch.bfloat16)
    half = load_drafter(tmp_path / "half", CPU, torch.float32)
    assert torch.equal(half.fc.weight, drafter.fc.weight.bfloat16().float())
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    # Casting weights must not round the rotary frequencies.
    cast: Callable[..., Any] = load_drafter(tmp_path, CPU, torch.bfloat16).rotary
    positions = torch.arange(200, 240)
    assert torch.equal(cast(positions)[0], drafter.rotary(positions)[0])
    assert torch.equal(again.to(torch.bfloat16).rotary(positions)[0], drafter.rotary(positions)[0])
