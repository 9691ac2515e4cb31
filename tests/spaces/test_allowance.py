"""One visitor may begin so many runs in an hour, and is told when to come back."""

import pytest

from dflash_app.errors import QueueFull
from dflash_app.spaces.allowance import HOUR_S, Allowance


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_the_one_too_many_is_told_when_to_come_back_and_then_may() -> None:
    clock = Clock()
    allowance = Allowance(2, clock=clock)
    allowance.take("a")
    clock.now_s = 600.0
    allowance.take("a")
    with pytest.raises(QueueFull, match=r"begun 2 runs .* in 50 minutes, at \d\d:\d\d UTC"):
        allowance.take("a")
    allowance.take("b")
    clock.now_s = HOUR_S - 1
    with pytest.raises(QueueFull, match="in 1 minute, at"):
        allowance.take("a")
    clock.now_s = HOUR_S
    allowance.take("a")
    with pytest.raises(QueueFull, match="in 10 minutes"):
        allowance.take("a")


def test_visitors_who_are_gone_are_forgotten() -> None:
    clock = Clock()
    allowance = Allowance(1, clock=clock)
    for number in range(100):
        allowance.take(str(number))
    clock.now_s = HOUR_S + 1
    allowance.take("later")
    assert list(allowance._begun) == ["later"]
