import random

import pytest

from dflash_app.engine.survival import PRIOR_RATE, Survival


def expected(rate: float, width: int) -> float:
    """1 + rate + rate² + ... + rate^width."""
    return sum(rate**position for position in range(width + 1))


def test_before_anything_was_seen_every_position_has_the_prior_rate():
    survival = Survival(15)
    assert survival.expected_tokens(0) == 1.0
    for width in (1, 7, 15):
        assert survival.expected_tokens(width) == pytest.approx(expected(PRIOR_RATE, width))


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("width", [4, 15])
def test_expected_tokens_come_near_the_rate_that_the_steps_had_whatever_their_width(rate, width):
    source = random.Random(3)
    survival = Survival(15)
    seen = []
    for step in range(600):
        accepted = 0
        while accepted < width and source.random() < rate:
            accepted += 1
        survival.observe(width, accepted)
        if step >= 100:
            seen.append(survival.expected_tokens(width))
    assert sum(seen) / len(seen) == pytest.approx(expected(rate, width), rel=0.15)


def test_a_narrow_step_that_accepts_all_says_nothing_against_later_positions():
    survival = Survival(15)
    before = [survival.expected_tokens(width) for width in range(16)]
    for _ in range(50):
        survival.observe(3, 3)
    after = [survival.expected_tokens(width) for width in range(16)]
    assert all(now > then for now, then in zip(after[1:], before[1:], strict=True))


def test_a_position_that_always_fails_is_known_among_positions_that_do_not():
    survival = Survival(15)
    for _ in range(60):
        survival.observe(15, 4)
    gains = [
        survival.expected_tokens(width + 1) - survival.expected_tokens(width) for width in range(15)
    ]
    assert min(gains[:4]) > 0.7
    assert gains[4] < 0.3


def test_what_changed_is_believed_within_a_few_steps_and_old_text_is_forgotten():
    survival = Survival(15)
    for _ in range(50):
        survival.observe(15, 12)
    assert survival.expected_tokens(15) > 10
    for _ in range(20):
        survival.observe(15, 0)
    assert survival.expected_tokens(15) < 3


def test_plain_steps_alone_never_wipe_out_what_was_seen_last():
    survival = Survival(15)
    for _ in range(60):
        survival.observe(15, 0)
    for _ in range(5_000):
        survival.observe(0, 0)
    assert survival.expected_tokens(1) < 1.5
