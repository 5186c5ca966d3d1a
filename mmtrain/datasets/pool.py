"""Does one thing to many files in processes of its own, so that a decoder that crashes takes no job with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import TypeVar

import cv2

from trainer_sdk.errors import ResourceError

Item = TypeVar("Item")
Result = TypeVar("Result")
Chunk = list[int]
"""Positions in the list of items."""

CHUNK = 16
"""Files per message: fewer cost more messages, more are looked at again one by one after a crash."""
MOST_DEATHS = 20
PRELOADED = ["__main__", "mmtrain.datasets.look", "scipy.fftpack"]
"""Imported once in the server that workers are forked from; imagehash imports scipy only when it is used."""


def each(
    function: Callable[[Item], Result], items: Sequence[Item], crashed: Result, *, processes: int, threads: int = 1
) -> Iterator[tuple[int, Result]]:
    """`function` of every item, as they come, with the item's position.

    After a crash the few items that were under way are done again, one by one, to tell which it was.

    Workers are forked from a clean server (forkserver): our own process has threads and must not be forked.

    Args:
        function: importable, as are its arguments and results picklable.
        threads: per process, for functions that wait more than they compute.
        crashed: the result of an item that kills its process.

    Raises:
        ResourceError: so many processes died that it cannot be the items' fault.
    """
    deaths = 0
    starts = range(0, len(items), CHUNK)
    waiting = iter([list(range(start, min(start + CHUNK, len(items)))) for start in starts])
    while True:
        suspects: list[Chunk] = []
        yield from _until_broken(partial(_all_of, function, threads), items, waiting, suspects, processes)
        if not suspects:
            return
        for position, result, died in _one_by_one(function, items, [p for chunk in suspects for p in chunk], crashed):
            deaths += died
            if deaths > MOST_DEATHS:
                raise ResourceError(
                    f"{deaths} processes that looked at files were killed",
                    hint="most likely memory ran out: give the container more, or fewer cores",
                )
            yield position, result


def _until_broken(
    function: Callable[[list[Item]], list[Result]],
    items: Sequence[Item],
    waiting: Iterator[Chunk],
    suspects: list[Chunk],
    processes: int,
) -> Iterator[tuple[int, Result]]:
    """Works off `waiting`; when a process dies, leaves the chunks that were under way in `suspects`."""
    with _pool(processes) as pool:
        under_way: dict[Future[list[Result]], Chunk] = {}
        while True:
            for chunk in islice(waiting, 0 if suspects else 2 * processes - len(under_way)):
                try:
                    under_way[pool.submit(function, [items[i] for i in chunk])] = chunk
                except BrokenProcessPool:
                    suspects.append(chunk)
                    break
            if not under_way:
                return
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                chunk = under_way.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    suspects.append(chunk)
                else:
                    yield from zip(chunk, future.result(), strict=True)


def _one_by_one(
    function: Callable[[Item], Result], items: Sequence[Item], positions: list[int], crashed: Result
) -> Iterator[tuple[int, Result, bool]]:
    """Position, result, and whether it killed its process."""
    while positions:
        with _pool(1) as pool:
            while positions:
                position = positions.pop(0)
                try:
                    yield position, pool.submit(function, items[position]).result(), False
                except BrokenProcessPool:
                    yield position, crashed, True
                    break


def _pool(processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return ProcessPoolExecutor(processes, context, initializer=_settle)


def _settle() -> None:
    """What every worker does first."""
    cv2.setNumThreads(0)  # one process per core already
    cv2.setLogLevel(0)  # faults are told as findings, which know the file name
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; ours is ended by its parent
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """Executors wait for work forever, also when whoever gave it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _all_of(function: Callable[[Item], Result], threads: int, items: list[Item]) -> list[Result]:
    if threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
