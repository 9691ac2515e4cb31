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


def test_a_refused_block_is_judged_by_how_sure_the_drafter_was_of_its_other_drafts():
    def after(confidence: float | None) -> float:
        survival = Survival(15)
        for _ in range(5):
            survival.observe(15, 8, [0.95] * 15)
        survival.observe(15, 0, None if confidence is None else [confidence] * 15)
        return survival.expected_tokens(15)

    assert after(0.2) < 0.6 * after(None)
    assert after(0.9) == pytest.approx(after(None), rel=0.15)


def test_confidence_counts_only_where_nothing_else_is_known():
    told, untold = Survival(15), Survival(15)
    for accepted in (1, 4, 15, 7):
        told.observe(15, accepted, [0.1] * 15)
        untold.observe(15, accepted)
    assert told.expected_tokens(15) == untold.expected_tokens(15)


def test_a_drafter_that_is_too_sure_is_believed_as_far_as_it_was_right():
    source, survival, seen = random.Random(3), Survival(15), []
    for step in range(300):
        accepted = 0
        while accepted < 15 and source.random() < 0.2:
            accepted += 1
        survival.observe(15, accepted, [0.95] * 15)
        if step >= 50:
            seen.append(survival.expected_tokens(15))
    assert sum(seen) / len(seen) == pytest.approx(expected(0.2, 15), rel=0.15)
