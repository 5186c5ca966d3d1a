"""Work that overlaps, in order and within bounds: a hundred thousand pictures need as much memory as a hundred."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def in_order(items: Iterable[A], work: Callable[[A], B], *, threads: int, ahead: int) -> Iterator[B]:
    """`map` in threads: results in the order of the items, at most `ahead` of them begun and not yet taken.

    Raises: what `work` or the items raise, where it belongs in the order.
    """
    pending: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                while len(pending) >= ahead or (pending and pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def chunks(items: Iterable[A], size: int) -> Iterator[list[A]]:
    """Lists of `size`, the last one perhaps shorter."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk
