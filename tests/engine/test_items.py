"""A reader sleeps while items come, and misses none of them nor the end."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from queue import SimpleQueue

import pytest

from dflash_app.engine.items import Items

END = -1


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


def read_all(items: Items[int], taken: "SimpleQueue[int]") -> list[bool]:
    """Read up to the end; whether there was more to take behind each item."""
    more = []
    while (item := items.get()) != END:
        taken.put(item)
        more.append(not items._items.empty())
    return more


def test_items_come_in_the_order_in_which_they_were_put() -> None:
    items: Items[int] = Items()
    for number in range(5):
        items.put(number)
    assert [items.get() for _ in range(5)] == list(range(5))


def test_two_items_wake_the_reader_and_then_only_the_end_where_it_gathers_for_ever(
    pool: ThreadPoolExecutor,
) -> None:
    items: Items[int] = Items(gather_s=1e6)
    taken: SimpleQueue[int] = SimpleQueue()
    reading = pool.submit(read_all, items, taken)
    for number in (1, 2):  # a step and its text: both at once
        items.put(number)
        assert taken.get(timeout=60) == number
    items.put(3)
    time.sleep(0.05)  # a reader that this woke would take it alone
    items.put(4)
    items.put_last(END)
    assert reading.result(timeout=60) == [False, False, True, True]
    assert [taken.get(), taken.get()] == [3, 4]


def test_a_reader_that_does_not_gather_is_woken_by_every_item(pool: ThreadPoolExecutor) -> None:
    items: Items[int] = Items(gather_s=-inf)
    taken: SimpleQueue[int] = SimpleQueue()
    reading = pool.submit(read_all, items, taken)
    for number in range(5):
        items.put(number)
        assert taken.get(timeout=60) == number
    items.put_last(END)
    reading.result(timeout=60)


def test_an_item_that_comes_while_the_reader_gathers_is_taken_when_the_time_is_over(
    pool: ThreadPoolExecutor,
) -> None:
    items: Items[int] = Items(gather_s=0.01)
    taken: SimpleQueue[int] = SimpleQueue()
    reading = pool.submit(read_all, items, taken)
    for number in range(6):
        items.put(number)
        assert taken.get(timeout=60) == number  # no end comes to wake it
    items.put_last(END)
    reading.result(timeout=60)
