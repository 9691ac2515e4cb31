import re
from pathlib import Path
from typing import get_type_hints

import pytest

from dflash_app.errors import TrainingError
from dflash_app.training.builtin import train
from dflash_app.training.config import load_training_config

ROOT = Path(__file__).parents[2]
GOOD = """
target: runs/target
conversations: runs/conversations.jsonl
output: runs/out
drafter: {num_layers: 2, block_size: 16, target_layer_ids: [1, 3], mask_token_id: 3}
"""


def written(tmp_path, text):
    path = tmp_path / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_config_is_read_with_the_papers_defaults(tmp_path):
    config = load_training_config(written(tmp_path, GOOD))
    assert config.drafter.target_layer_ids == (1, 3)
    assert (config.learning_rate, config.clip, config.warmup_ratio) == (6e-4, 1.0, 0.04)
    assert config.optimizer == "adamw"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (GOOD.replace("block_size: 16", "block_size: 1"), "drafter.block_size"),
        (GOOD + "optimiser: adamw\n", "optimiser"),
        (GOOD.replace("target: runs/target\n", ""), "target"),
        ("target: [", "not valid YAML"),
    ],
)
def test_a_wrong_config_is_refused_with_the_place_named(tmp_path, text, named):
    path = written(tmp_path, text)
    with pytest.raises(TrainingError) as caught:
        load_training_config(path)
    assert named in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_example_that_the_help_names_is_a_config():
    argument = get_type_hints(train, include_extras=True)["config"].__metadata__[0]
    named = re.search(r"recipes/\S+\.yaml", argument.help)
    assert named, "the help names no example"
    config = load_training_config(ROOT / named[0])
    assert config.held_out is not None
    assert config.drafter.block_size == 16


def test_an_absent_config_is_one_sentence(tmp_path):
    with pytest.raises(TrainingError, match="Cannot read"):
        load_training_config(tmp_path / "none.yaml")
