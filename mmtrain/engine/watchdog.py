"""Notices a worker that lives and does nothing, and shows where it stands."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import time
from pathlib import Path

import psutil

from mmtrain.engine.order import LOG
from trainer_sdk.errors import ResourceError

DUMP = signal.SIGUSR2
FOR_A_DUMP_S = 2.0
"""For one process; it needs no Python to run for it, so a deadlock is no obstacle."""
MOST_CHARACTERS = 50_000


def show_stacks_on_request() -> None:
    """Of every thread, into the worker's log; also of processes forked from this one, and at a crash in C."""
    faulthandler.enable()
    faulthandler.register(DUMP, all_threads=True, chain=False)


class Watchdog:
    """Counts the time since the last news of a worker.

    Args:
        limit_s: how long it may be silent; 0: for ever.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._heard = time.monotonic()

    def hear(self) -> None:
        self._heard = time.monotonic()

    def check(self, starter: int, work_dir: Path) -> None:
        """
        Args:
            starter: the process that was launched.

        Raises:
            ResourceError: it has been silent for too long.
        """
        silent_s = time.monotonic() - self._heard
        if not 0 < self._limit_s < silent_s:
            return
        stacks = stacks_of(starter, work_dir / LOG)
        error = ResourceError(
            f"the training process made no progress for {silent_s:.0f} s (WATCHDOG_S)",
            hint=f"where it stood is in {work_dir / LOG}: look at storage, shared memory and workers; "
            "raise WATCHDOG_S if a step takes so long. The job goes on from its last checkpoint when it runs again",
        )
        error.worker_traceback = stacks
        raise error


def stacks_of(starter: int, log: Path) -> str:
    """Has `starter` and all processes below it that can write their stacks into the log, one after the other."""
    began = log.stat().st_size
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(starter)
        for process in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                if _answers(process.pid):
                    _dump(process, log)
    return log.read_bytes()[began:].decode(errors="replace")[-MOST_CHARACTERS:]


def _dump(process: psutil.Process, log: Path) -> None:
    with log.open("a") as file:
        file.write(f"\n--- stacks of process {process.pid} ({process.name()}), child of {process.ppid()} ---\n")
    before, deadline = log.stat().st_size, time.monotonic() + FOR_A_DUMP_S
    process.send_signal(DUMP)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        size = log.stat().st_size
        if size == before and size > 0 and _written(log):
            return
        before = size


def _written(log: Path) -> bool:
    """Whether a dump follows the last heading: it ends with a stack's lowest frame."""
    return '  File "' in log.read_text(errors="replace").rpartition("--- stacks of process")[2]


def _answers(process: int) -> bool:
    """Whether it catches the signal: any other would die of it."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (DUMP - 1) & 1)
