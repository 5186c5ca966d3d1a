"""Being told to stop: for one reason, whoever tells, and with a time for all that is still to be done."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping
from typing import Literal

from trainer_sdk.errors import JobError

GRACE_PERIOD_S = 30.0
"""Kubernetes' own: then it kills."""
SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
OURS = signal.SIGUSR1
"""Any thread's way to reach the main one wherever it is."""
Part = Literal["checkpoint", "upload", "delivery", "everything"]
CALL_S = 1.0
"""That is left to a call which is on its way when the time is over."""
ENDS: Mapping[Part, float] = {"checkpoint": 0.6, "upload": 0.8, "delivery": 0.9, "everything": 0.97}
"""When each part has to be done, as a share of the grace period: what one leaves belongs to the next."""


def hold_signals() -> None:
    """Lets them wait until there is a session that can answer them. For a script's first line."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def let_signals_through() -> None:
    """Those that waited come at once."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class Stop:
    """Why a job is to end early, and how long it may take to do so. Safe in signal handlers and from any thread."""

    def __init__(self, period_s: float = GRACE_PERIOD_S) -> None:
        self._period_s = period_s
        self._since = 0.0
        self.reason: JobError | None = None
        self.raised = False
        """The exception that ends the work is on its way; a second one might end what tidies up."""

    def tell(self, reason: JobError) -> bool:
        """The first reason counts. Returns whether it is this one."""
        if self.reason is not None:
            return False
        self._since = time.monotonic()
        self.reason = reason
        return True

    def check(self) -> None:
        """Raises: JobError, the reason: also where a library swallowed the exception that came with the signal."""
        if self.reason is not None:
            self.raised = True
            raise self.reason

    def left_s(self, part: Part) -> float:
        """Of the time until `part` has to be done; of all its time when nobody has told yet."""
        gone = 0.0 if self.reason is None else time.monotonic() - self._since
        return max(0.0, ENDS[part] * self._period_s - gone)

    def left_to_call_s(self, part: Part) -> float:
        """The same for who waits for others' answers: a call that is on its way is not broken off."""
        return max(0.0, self.left_s(part) - CALL_S)


class Wakeups:
    """Hears of signals the moment they come, on another thread than the main one.

    Python runs handlers in the main thread between two of its steps: while it is in a library, or has just begun to
    wait, that may be never.
    """

    def __init__(self) -> None:
        """To be made in the main thread."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self.closed = False

    def wait(self, timeout_s: float | None) -> int | None:
        """The next signal that has a handler, 0 when it is closed; None: none came in time."""
        ready, _, _ = select.select([self._reader], [], [], timeout_s)
        return os.read(self._reader, 1)[0] if ready else None

    def close(self) -> None:
        """Whoever waits hears of no signal any more. In the main thread too."""
        self.closed = True
        signal.set_wakeup_fd(-1)
        os.write(self._writer, b"\0")
