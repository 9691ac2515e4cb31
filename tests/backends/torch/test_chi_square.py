"""The judge of the sampling tests can say no."""

from collections import Counter

import pytest

from tests.backends.torch.chi_square import chance_of

FAIR = dict.fromkeys(range(6), 1 / 6)


@pytest.mark.parametrize(("surplus", "chance"), [(0, 1.0), (235, 0.05), (320, 0.001)])
def test_the_figure_is_that_of_textbook_tables(surplus: int, chance: float) -> None:
    # With five degrees of freedom 11.07 stands for 5 % and 20.52 for 0.1 %.
    counts = Counter(dict.fromkeys(range(6), 10_000))
    counts[0] += surplus
    counts[1] -= surplus
    assert chance_of(counts, FAIR) == pytest.approx(chance, rel=0.02)


def test_the_impossible_is_refused_and_rare_outcomes_are_pooled() -> None:
    assert chance_of(Counter({0: 50, 1: 50, 7: 1}), {0: 0.5, 1: 0.5}) == 0.0
    rare = dict.fromkeys(range(2, 12), 0.001) | {0: 0.5, 1: 0.49}
    assert chance_of(Counter({0: 500, 1: 490, 2: 10}), rare) == pytest.approx(1.0)
    assert chance_of(Counter({0: 480, 1: 470, 2: 50}), rare) < 1e-9
