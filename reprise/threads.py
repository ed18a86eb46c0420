"""Do the same to many items in the threads of a job, or make items while others are used.

A step of generation, and decoding and scoring a clip, are many short operations, which gain little from a second
thread each. So items are spread over threads, and each thread does its own arithmetic alone. A result then does not
depend on the number of threads.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

import threadpoolctl

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """Apply a function to items in several threads.

    Parameters
    ----------
    work
        The function. It must not change what others read.
    items
        The items. They are made here, at most `threads` ahead.
    threads
        Number of threads, 1 or more, with one numerical thread each. One thread is the caller's own.

    Yields
    ------
    Result
        The results, in the order of the items. An exception of `work` is raised here.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if threads == 1:
            with threadpoolctl.threadpool_limits(1):
                yield from map(work, items)
            return
        with threadpoolctl.threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
            ahead: deque[Future[Result]] = deque()
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
    finally:
        torch.set_num_threads(before)


def ahead(items: Iterable[Item], *, n: int) -> Iterator[Item]:
    """The items, which a thread makes up to `n` ahead. An exception of theirs is raised here."""
    iterator, ended = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        made: deque[Future[Item | object]] = deque(thread.submit(next, iterator, ended) for _ in range(n))
        while (item := made.popleft().result()) is not ended:
            made.append(thread.submit(next, iterator, ended))
            yield cast(Item, item)
