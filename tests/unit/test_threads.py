"""Work in threads: results in order, errors raised, and one numerical thread each."""

import threading
import time

import pytest
import torch

from reprise.threads import in_threads


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
