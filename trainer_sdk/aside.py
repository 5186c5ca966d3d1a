"""Waiting that a signal can end.

A signal's exception is raised in the main thread only, and only between two steps of Python: not while a library waits
for a server that hangs, and botocore takes it for one more error of the network and tries again. So the main thread
lets others wait. Theirs are daemon threads: what they still wait for does not keep the process.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import NoReturn, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


def aside(call: Callable[[], Result]) -> Result:
    """What the call returns or raises. A signal leaves it behind; off the main thread it is just called."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    future: Future[Result] = Future()

    def settle() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  it is raised where the result is wanted
            future.set_exception(error)

    threading.Thread(target=settle, name="aside", daemon=True).start()
    return future.result()


def each(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Iterator[tuple[Item, Result]]:
    """(item, what came of it) as they are done, so many at once.

    The first error is raised when those under way have ended too, and no other begins; a signal leaves them behind.
    """
    rest, stop = iter(items), threading.Event()
    done: SimpleQueue[tuple[Item, Result | None, BaseException | None]] = SimpleQueue()

    def take_turns() -> None:
        for item in rest:  # one for all: `next` of a sequence's iterator is a single step
            if stop.is_set():
                return
            try:
                done.put((item, work(item), None))
            except BaseException as error:  # noqa: BLE001  it is raised where the result is wanted
                done.put((item, None, error))

    workers = [threading.Thread(target=take_turns, name="fetch", daemon=True) for _ in items[:threads]]
    for worker in workers:
        worker.start()
    try:
        for _ in items:
            item, result, error = done.get()
            if error is not None:
                stop.set()
                for worker in workers:
                    worker.join()
                raise error
            yield item, cast(Result, result)
    finally:
        stop.set()


def leave(exit_code: int) -> NoReturn:
    """Ends the process, whatever threads of a library still wait for: an upload's are no daemons."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
