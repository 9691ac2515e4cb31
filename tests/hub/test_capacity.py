"""Room for a cache follows from its length, however it was reached."""

import random

import pytest

from dflash_app.hub.capacity import FIRST_CAPACITY, capacity_of


def test_capacities_are_powers_of_two_and_no_larger_than_they_must_be() -> None:
    assert [capacity_of(length) for length in (0, 1, 512, 513, 1024, 1025)] == [
        0, FIRST_CAPACITY, FIRST_CAPACITY, 1024, 1024, 2048
    ]  # fmt: skip
    for length in range(FIRST_CAPACITY + 1, 20_000, 7):
        assert length <= capacity_of(length) < 2 * length


@pytest.mark.parametrize("length", [40, 700, 1100, 5000, 9001])
def test_the_way_to_a_length_changes_neither_its_capacity_nor_the_most_held_twice(
    length: int,
) -> None:
    for seed in range(20):
        pieces = random.Random(seed)
        end = capacity = largest_before = 0
        while end < length:
            end = min(length, end + pieces.randint(1, 512))
            if end > capacity:
                capacity, largest_before = capacity_of(end), capacity
        assert capacity == capacity_of(length)
        assert largest_before <= capacity // 2
