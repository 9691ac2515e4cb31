"""The whole recipe in its short form: every stage for real, in minutes."""

import json

import pytest

from dflash_app.backends.torch.loading import load_models
from recipes.embedded_pair.__main__ import make_pair
from recipes.embedded_pair.config import SHORT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_recipe_makes_a_lossless_pair_whose_loss_falls_and_acceptance_rises(tmp_path):
    losses, result, figures = make_pair(SHORT, tmp_path)

    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
    assert sum(result.losses[-20:]) < 0.8 * sum(result.losses[:20])
    steps = sorted(result.acceptance)
    assert steps[0] == 0
    assert result.acceptance[steps[-1]] > result.acceptance[0] + 0.2
    assert figures["all"]["num_lossless"] == figures["all"]["num_tasks"] > 0

    models = load_models(tmp_path / "target", result.folder)
    assert models.block_size == SHORT.drafter.block_size
    provenance = json.loads((result.folder / "training.json").read_text())
    assert provenance["num_sequences"] > 0
    card = (tmp_path / "README.md").read_text()
    assert all(kind in card for kind in figures["kinds"])

    # A second call finds every stage done and trains nothing.
    again, resumed, _ = make_pair(SHORT, tmp_path)
    assert again == []
    assert resumed.losses == []
