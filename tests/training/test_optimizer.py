import pytest
import torch
from torch import nn

from dflash_app.training.optimizer import MasterOptimizer, learning_rate_scale


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16, bias=False), nn.RMSNorm(16), nn.Linear(16, 4, bias=False))


def train(model, optimizer, steps):
    torch.manual_seed(1)
    inputs = torch.randn(64, 8, dtype=next(model.parameters()).dtype)
    targets = inputs.float() @ torch.randn(8, 4)
    losses = []
    for _ in range(steps):
        loss = (model(inputs).float() - targets).square().mean()
        loss.backward()
        optimizer.step(1.0)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("matrix_lr", [None, 0.02])
def test_both_optimisers_bring_the_loss_down(matrix_lr):
    model = small_model()
    losses = train(model, MasterOptimizer(model, matrix_lr=matrix_lr, other_lr=0.02), 60)
    assert losses[-1] < 0.5 * losses[0]


def test_masters_keep_updates_that_bfloat16_would_round_away():
    model = small_model()
    optimizer = MasterOptimizer(model, matrix_lr=None, other_lr=1e-5)
    model.to(torch.bfloat16)
    before = [p.clone() for p in model.parameters()]
    train(model, optimizer, 200)
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert all(moved[::2])  # the matrices


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped():
    whole, first, second = small_model(), small_model(), small_model()
    losses = train(whole, MasterOptimizer(whole, matrix_lr=0.01, other_lr=0.01), 6)
    optimizer = MasterOptimizer(first, matrix_lr=0.01, other_lr=0.01)
    train(first, optimizer, 3)
    resumed = MasterOptimizer(second, matrix_lr=0.01, other_lr=0.01)
    resumed.load_state_dict(optimizer.state_dict())
    assert train(second, resumed, 3) == pytest.approx(losses[3:], rel=1e-5)


def test_the_rate_rises_linearly_then_falls_to_nothing():
    scales = [learning_rate_scale(step, 4, 104) for step in range(104)]
    assert scales[:4] == [0.25, 0.5, 0.75, 1.0]
    assert scales[4:] == sorted(scales[4:], reverse=True)
    assert scales[54] == pytest.approx(0.5)
    assert scales[-1] < 0.001
