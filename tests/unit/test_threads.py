"""Work in threads: results in order, errors raised, and one numerical thread each."""

import threading
import time

import pytest
import torch

from reprise.threads import ahead, in_threads


def test_results_keep_the_order_and_items_are_made_when_they_are_needed():
    made, before = [], torch.get_num_threads()

    def items():
        for i in range(20):
            made.append(i)
            yield i

    def work(i: int) -> tuple[int, int]:
        time.sleep(0.01 * (i % 3))
        return i, torch.get_num_threads()

    results = in_threads(work, items(), threads=3)
    assert next(results) == (0, 1)
    assert len(made) <= 5, "at most `threads` ahead"
    assert list(results) == [(i, 1) for i in range(1, 20)]
    assert torch.get_num_threads() == before


def test_it_uses_that_many_threads_and_raises_what_the_work_raises():
    seen, both = set(), threading.Barrier(2, timeout=5)

    def work(i: int) -> None:
        seen.add(threading.get_ident())
        both.wait()
        if i == 3:
            raise ValueError("item 3")

    with pytest.raises(ValueError, match="item 3"):
        list(in_threads(work, range(4), threads=2))
    assert len(seen) == 2 and threading.get_ident() not in seen


def test_items_are_made_ahead_in_a_thread_and_come_in_order():
    made: list[int] = []

    def items():
        for i in range(10):
            made.append(threading.get_ident())
            yield i

    found = ahead(items(), n=3)
    assert next(found) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(made) == 4, "three wait while one is used"
    assert list(found) == list(range(1, 10))
    assert threading.get_ident() not in made
    assert list(ahead([], n=2)) == []


def test_what_fails_ahead_is_raised_where_the_item_is_used():
    def items():
        yield 1
        raise ValueError("the second")

    found = ahead(items(), n=4)
    assert next(found) == 1
    with pytest.raises(ValueError, match="the second"):
        next(found)
