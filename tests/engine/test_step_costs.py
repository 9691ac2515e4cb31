import random

import pytest

from dflash_app.engine.step_costs import NEEDED_STEPS, StepCosts
from tests.engine.replay import COSTS, loaded

EMBEDDED = COSTS["embedded pair on two cores"]


def measured(costs: StepCosts, seconds: list[float], rounds: int = NEEDED_STEPS) -> StepCosts:
    """Tell `costs` steps of these seconds at AR and at the widest, each `rounds` times."""
    for width in (costs.widths[-1], 0):
        for _ in range(rounds):
            costs.observe(width, seconds[width])
    return costs


@pytest.mark.parametrize(
    ("num_drafts", "widths"),
    [
        (1, (0, 1)),
        (2, (0, 1, 2)),
        (7, (0, 1, 2, 3, 4, 5, 7)),
        (15, (0, 1, 2, 3, 4, 6, 8, 11, 15)),
    ],
)
def test_widths_are_few_and_reach_from_ar_to_the_whole_block(num_drafts, widths):
    assert StepCosts(num_drafts).widths == widths


def test_every_width_from_1_to_63_drafts_ends_in_0_and_the_block():
    for num_drafts in range(1, 64):
        widths = StepCosts(num_drafts).widths
        assert (widths[0], widths[1], widths[-1]) == (0, 1, num_drafts)
        assert sorted(set(widths)) == list(widths)


def test_the_block_and_ar_are_measured_in_turns_of_a_few_steps():
    costs, order = StepCosts(15), []
    while (width := costs.unmeasured) is not None:
        order.append(width)
        costs.observe(width, 1.0)
    assert order == [15, 15, 0, 0] * (NEEDED_STEPS // 2)


@pytest.mark.parametrize("moment", range(1, 2 * NEEDED_STEPS))
def test_a_machine_that_becomes_slow_while_costs_are_measured_misleads_little(moment):
    costs, number = StepCosts(15), 0
    while (width := costs.unmeasured) is not None:
        costs.observe(width, EMBEDDED[width] * (2.0 if number >= moment else 1.0))
        number += 1
    ratio = EMBEDDED[15] / EMBEDDED[0]
    assert costs[15] / costs[0] == pytest.approx(ratio, rel=0.3)


def test_the_first_step_of_a_width_which_makes_its_kernels_is_not_counted():
    costs = StepCosts(15)
    costs.observe(15, 90.0)
    costs.observe(0, 50.0)
    measured(costs, [1.0, *[0.0] * 14, 1.6])
    assert costs[15] / costs[0] == pytest.approx(1.6)
    costs.observe(4, 70.0)
    assert costs[4] / costs[0] == pytest.approx(1.0 + 0.6 * 4 / 15)


def test_a_width_never_tried_lies_between_its_neighbours():
    costs = measured(StepCosts(15), [1.0, *[0.0] * 14, 4.0])
    assert costs[8] / costs[0] == pytest.approx(1.0 + 3.0 * 8 / 15)
    for _ in range(100):
        costs.observe(4, 3.0)
        costs.observe(0, 1.0)
        costs.observe(15, 4.0)
    assert costs[2] / costs[0] == pytest.approx(2.0, rel=0.05)
    assert costs[8] / costs[0] == pytest.approx(3.0 + 4 / 11, rel=0.05)


def test_one_lucky_step_does_not_make_a_width_look_cheap():
    costs = measured(StepCosts(15), [1.0, *[0.0] * 14, 1.6])
    guess = costs[8]
    costs.observe(8, 1.3)
    costs.observe(8, 0.65)
    assert 0.75 * guess < costs[8] < guess


def test_a_step_cut_to_a_width_of_its_own_and_a_clock_that_stands_still_tell_nothing():
    costs = measured(StepCosts(15), [1.0, *[0.0] * 14, 1.6])
    before = [costs[width] for width in costs.widths]
    costs.observe(13, 100.0)
    costs.observe(15, 0.0)
    assert [costs[width] for width in costs.widths] == before


def test_a_machine_that_becomes_twice_as_slow_changes_no_width_against_another():
    costs = measured(StepCosts(15), list(EMBEDDED), rounds=60)
    ratio = costs[15] / costs[0]
    for _ in range(100):
        costs.observe(15, 2.0 * EMBEDDED[15])
    assert costs[15] / costs[0] == pytest.approx(ratio, rel=0.05)


def test_a_width_that_becomes_slower_than_the_others_is_found_out():
    costs = measured(StepCosts(15), list(EMBEDDED), rounds=60)
    for _ in range(400):
        for _ in range(4):
            costs.observe(15, 1.5 * EMBEDDED[15])
        costs.observe(0, EMBEDDED[0])
    ratio = 1.5 * EMBEDDED[15] / EMBEDDED[0]
    assert costs[15] / costs[0] == pytest.approx(ratio, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_ratios_are_right_within_a_tenth_on_a_machine_shared_with_others(seed):
    source = random.Random(seed)
    noise, costs = loaded(source), StepCosts(15)
    for _ in range(1_500):
        width = costs.unmeasured
        if width is None:
            width = source.choice((0, 4, 15, 15, 15))
        costs.observe(width, EMBEDDED[width] * noise())
    for width in (4, 15):
        ratio = EMBEDDED[width] / EMBEDDED[0]
        assert costs[width] / costs[0] == pytest.approx(ratio, rel=0.1)


def test_trials_are_paid_from_a_share_of_the_time_and_gains_pay_for_more():
    costs = measured(StepCosts(15), [1.0, *[0.0] * 14, 1.6])
    unit = costs[0]
    assert not costs.allows_trial(0.5 * unit)
    for _ in range(100):
        costs.observe(0, 1.0)
    assert costs.allows_trial(0.5 * unit)
    costs.charge_trial(2.0 * unit)
    # A trial that is hoped to gain waits too until the last loss is paid off.
    assert not costs.allows_trial(-0.5 * unit)
    costs.charge_trial(-3.0 * unit)
    assert costs.allows_trial(0.5 * unit)
    # Savings are bounded: a long run must not pay for many bad trials of the next.
    for _ in range(10_000):
        costs.observe(0, 1.0)
    assert not costs.allows_trial(1.7 * unit)
