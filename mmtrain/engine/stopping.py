"""How the processes of a worker hear that they are to end, and that they do end. No torch.

The trainer asks by a file (docs/decisions/0003); a scheduler may signal every process of the job at once; and a
parent that was killed asks for nothing any more.
"""

from __future__ import annotations

import contextlib
import multiprocessing.context
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType

import psutil

from trainer_sdk.errors import Interrupted

LOOK_EVERY_S = 0.5
ORPHAN_S = 20.0
"""For what a process does after its parent's death: less than a rerun waits for it (Workspace.claim)."""


class StopRequest:
    """Whether this process is to end."""

    def __init__(self, stop_file: Path, parent: int) -> None:
        """
        Args:
            stop_file: its appearance asks.
            parent: process whose end asks.
        """
        self._stop_file = stop_file
        self._parent = parent
        self._starter = os.getppid()
        self._signalled = False
        self._next_look = 0.0
        self._asked = False

    @property
    def orphaned(self) -> bool:
        """Nobody is left who would hear of the work, or end it."""
        return os.getppid() != self._starter or not is_alive(self._parent)

    def asked(self) -> bool:
        """Looks now and then: cheap enough for every iteration."""
        if not self._asked and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_EVERY_S
            self._asked = self._signalled or self._stop_file.exists() or self.orphaned
        return self._asked

    def check(self) -> None:
        """For work that leaves nothing to be saved. Raises: Interrupted."""
        if self.asked():
            raise Interrupted("the parent asked to stop")

    def listen(self) -> None:
        """SIGTERM and SIGINT, however many, ask from now on; and this process does not outlive its parent for long."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        threading.Thread(target=self._end_after_the_parent, name="orphan", daemon=True).start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        self._next_look = 0.0

    def _end_after_the_parent(self) -> None:
        """Also where no iteration ever ends: in a deadlock, or a library's start."""
        while not self.orphaned:
            time.sleep(LOOK_EVERY_S)
        time.sleep(ORPHAN_S)
        end_this_process()


def is_alive(process: int) -> bool:
    """A zombie is gone too: its own parent just has not looked yet."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_with_starter() -> None:
    """Ends this process as soon as whoever started it is gone: what it does is of use to nobody else."""
    starter = os.getppid()

    def look() -> None:
        while os.getppid() == starter:
            time.sleep(LOOK_EVERY_S)
        end_this_process()

    threading.Thread(target=look, name="orphan", daemon=True).start()


def end_this_process() -> None:
    """At once, with its children."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


class _BornDeaf(multiprocessing.context.ForkProcess):
    """Its first thread begins with SIGTERM blocked; torch starts others there before any code of ours runs."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class LoadingContext(multiprocessing.context.ForkContext):
    """Of data loading processes, which then have to `heed_only_the_parent`."""

    Process = _BornDeaf


def heed_only_the_parent() -> None:
    """For a data loading process: SIGTERM ends it when its own parent sends it, and is nothing when others do.

    Torch's handler ends it, and so the training, when somebody signals every process of a job: the checkpoint that is
    to be saved then still needs it. Every thread has to block the signal: see `LoadingContext`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_heed, name="signals", daemon=True).start()


def _heed() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
