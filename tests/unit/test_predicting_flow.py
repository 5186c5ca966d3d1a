"""Overlapping work keeps its order and its bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice

import pytest

from mmtrain.predicting.flow import chunks, in_order


def test_results_come_in_order_whatever_is_ready_first() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    assert list(in_order(range(20), slow_at_first, threads=4, ahead=8)) == [n * n for n in range(20)]


def test_no_more_is_begun_than_allowed() -> None:
    begun, taken = 0, 0
    most = 0

    def items() -> Iterator[int]:
        nonlocal begun, most
        for number in range(100):
            begun += 1
            most = max(most, begun - taken)
            yield number

    for _ in in_order(items(), lambda number: number, threads=2, ahead=5):
        taken += 1
    assert taken == 100
    assert most <= 6


def test_work_overlaps() -> None:
    both = threading.Barrier(2, timeout=10)
    assert len(list(in_order(range(2), lambda _: both.wait(), threads=2, ahead=2))) == 2


def test_an_error_comes_where_it_belongs() -> None:
    def fails_at_three(number: int) -> int:
        if number == 3:
            raise OSError("third")
        return number

    results = in_order(range(10), fails_at_three, threads=3, ahead=6)
    assert list(islice(results, 3)) == [0, 1, 2]
    with pytest.raises(OSError, match="third"):
        next(results)


def test_chunks_end_with_a_short_one() -> None:
    assert list(chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
