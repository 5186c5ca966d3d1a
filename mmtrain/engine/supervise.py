"""Listens to the worker while it lives, lets it leave, and turns whatever becomes of it into a result or one error."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil

from mmtrain.engine.death import death
from mmtrain.engine.messages import Done, Finished, FitStarted, MessageReader, News, Predicting
from mmtrain.engine.order import MESSAGES, STOP
from mmtrain.engine.watchdog import Watchdog
from trainer_sdk.failures.cgroup import oom_kill_count
from trainer_sdk.stopping import Stop

Last = TypeVar("Last", Finished, Done)

POLL_S = 0.2


def supervise(
    process: subprocess.Popen[bytes],
    work_dir: Path,
    listen: Callable[[News], None],
    *,
    stop: Stop | None = None,
    watchdog_s: float = 0.0,
    alone: bool = True,
) -> Finished:
    """Waits for the worker and passes its news on.

    Args:
        stop: the job's; how long the worker may take to save a checkpoint, too.
        watchdog_s: how long it may say nothing; 0: for ever.
        alone: no other machine trains with it.

    Raises:
        JobError: what the worker reported, or what its death means; the reason to stop, passed on after the worker has
            saved a checkpoint and left.
    """
    stop = stop or Stop()
    with_something_to_save = not alone

    def hear(message: News) -> None:
        """Before the first and after the last iteration there is nothing to save."""
        nonlocal with_something_to_save
        if isinstance(message, FitStarted):
            with_something_to_save = True
        elif isinstance(message, Predicting | Finished):
            with_something_to_save = not alone
        listen(message)

    def patience_s() -> float:
        return stop.left_s("checkpoint") if with_something_to_save else 0.0

    return _supervised(process, work_dir, hear, Finished, stop, Watchdog(watchdog_s), patience_s)


def supervise_alone(
    process: subprocess.Popen[bytes],
    work_dir: Path,
    listen: Callable[[News], None],
    *,
    stop: Stop | None = None,
    watchdog_s: float = 0.0,
) -> Done:
    """As `supervise`, for `launch_alone`, which has nothing to save. Raises: as there."""
    return _supervised(process, work_dir, listen, Done, stop or Stop(), Watchdog(watchdog_s), lambda: 0.0)


def _supervised(
    process: subprocess.Popen[bytes],
    work_dir: Path,
    listen: Callable[[News], None],
    last: type[Last],
    stop: Stop,
    watchdog: Watchdog,
    patience_s: Callable[[], float],
) -> Last:
    """
    Args:
        patience_s: how long the worker may take to leave, asked when it has to.
    """
    oom_kills = oom_kill_count()
    finished: Last | None = None
    with contextlib.closing(MessageReader(work_dir / MESSAGES)) as reader:
        try:
            for message in _until_exit(process, reader):
                stop.check()
                if message is None:
                    watchdog.check(process.pid, work_dir)
                    continue
                watchdog.hear()
                finished = message if isinstance(message, last) else finished
                listen(message)
        except BaseException:
            let_leave(process, work_dir, patience_s())
            raise
    if process.returncode == 0 and finished is not None:
        return finished
    raise death(process.returncode, work_dir, oom_killed=oom_kill_count() > oom_kills)


def _until_exit(process: subprocess.Popen[bytes], reader: MessageReader) -> Iterator[News | None]:
    """What it says, and None at every look."""
    while process.poll() is None:
        yield from reader.news()
        yield None
        time.sleep(POLL_S)
    yield from reader.news()


def let_leave(process: subprocess.Popen[bytes], work_dir: Path, patience_s: float) -> None:
    """Asks the worker to save and leave; ends it and its children when it does not, or has no time for it."""
    try:
        with contextlib.suppress(OSError):  # a full disk: then without a checkpoint
            (work_dir / STOP).touch()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    finally:
        end_tree(process)


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """torchrun gives every worker a session of its own, so no process group holds them all."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()
