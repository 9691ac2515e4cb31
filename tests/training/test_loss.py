import math

import pytest
import torch

from dflash_app.training.anchors import IGNORED
from dflash_app.training.loss import block_loss, drafted_prefix


def test_a_slot_weighs_less_the_later_it_stands():
    # Two drafted slots; the wrong one costs log(1 + e) more than the right one's share.
    targets = torch.tensor([[IGNORED, 0, 0]])
    slots = torch.tensor([0, 1, 2])
    logits = torch.zeros(1, 3, 2)
    early, late = logits.clone(), logits.clone()
    early[0, 1, 1] = 5.0
    late[0, 2, 1] = 5.0
    assert block_loss(early, targets, slots, gamma=2.0) > block_loss(
        late, targets, slots, gamma=2.0
    )


def test_the_loss_is_the_weighted_mean_by_hand():
    targets = torch.tensor([[IGNORED, 1, 0]])
    slots = torch.tensor([0, 1, 2])
    logits = torch.tensor([[[9.0, 0.0], [0.0, 1.0], [0.0, 2.0]]])
    first, second = math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))
    weight = math.exp(-1 / 7)
    expected = (first + weight * second) / (1 + weight)
    assert block_loss(logits, targets, slots, gamma=7.0).item() == pytest.approx(expected, rel=1e-5)


def test_slots_without_a_target_neither_count_nor_divide():
    targets = torch.full((1, 4), IGNORED)
    assert block_loss(torch.randn(1, 4, 3), targets, torch.arange(4), 7.0).item() == 0.0


def test_the_prefix_ends_at_the_first_wrong_draft():
    targets = torch.tensor([[IGNORED, 1, 1, 1, IGNORED, 1, 1, 1]])
    logits = torch.zeros(1, 8, 2)
    logits[0, :, 1] = 1.0
    logits[0, 2, 0] = 2.0  # block 0 is wrong at slot 2, block 1 nowhere
    assert drafted_prefix(logits, targets, block_size=4) == pytest.approx((1 + 3) / 2)
