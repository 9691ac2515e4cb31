import json

import pytest
import torch

from dflash_app.errors import TrainingError
from dflash_app.training.config import DrafterShape, TrainingConfig
from dflash_app.training.trainer import train_drafter
from tests.training.tiny_target import write_target


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A config and the checkpoint of its first step."""
    folder = tmp_path_factory.mktemp("trained")
    rows = [{"messages": [{"role": "user", "content": f"w{i} w{i + 1}"}]} for i in range(1, 9)]
    (folder / "c.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = TrainingConfig(
        target=write_target(folder / "target"),
        conversations=folder / "c.jsonl",
        output=folder / "out",
        drafter=DrafterShape(num_layers=1, block_size=4, target_layer_ids=(0, 2), mask_token_id=3),
        max_new_tokens=12,
        sequence_length=48,
        batch_sequences=2,
        num_steps=1,
    )
    train_drafter(config, log=lambda _: None)
    path = config.output / "checkpoint.pt"
    return config, path, torch.load(path, weights_only=True)


def test_a_whole_checkpoint_is_taken_up(trained):
    config, path, state = trained
    torch.save(state, path)
    said = []
    train_drafter(config.model_copy(update={"num_steps": 2}), log=said.append)
    assert "going on from step 1" in said


@pytest.mark.parametrize("lost", ["optimizer", "generator", "step", "acceptance"])
def test_a_checkpoint_that_lacks_a_part_is_refused_with_the_cure(trained, lost):
    config, path, state = trained
    torch.save({name: part for name, part in state.items() if name != lost}, path)
    with pytest.raises(TrainingError, match="delete it to start anew"):
        train_drafter(config, log=lambda _: None)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_refused_with_the_cure(trained, content):
    config, path, _ = trained
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="delete it to start anew"):
        train_drafter(config, log=lambda _: None)


def test_a_checkpoint_with_a_foreign_generator_is_refused_with_the_cure(trained):
    config, path, state = trained
    torch.save({**state, "generator": torch.zeros(3)}, path)
    with pytest.raises(TrainingError, match="delete it to start anew"):
        train_drafter(config, log=lambda _: None)
