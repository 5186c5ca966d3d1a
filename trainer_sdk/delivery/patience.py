"""How long the outbox waits before it tries again, and how long it tries at all."""

from __future__ import annotations

import math
import random
import time
from typing import NamedTuple

LONGEST_PAUSE_S = 15.0
CLOSING_PAUSE_S = 1.0
"""The backend had its chance to recover while we trained; at the end we ask often, the time is short."""
LAST_TRY_S = 0.5
"""Before the time is over, whatever the backend asked us to wait."""


class Pause(NamedTuple):
    """One wait."""

    begun: float
    seconds: float
    asked_s: float | None
    """What the backend asked for."""


class Patience:
    """Without end while the job works; from its end on, for the time given."""

    def __init__(self, first_pause_s: float) -> None:
        self._first_pause_s = first_pause_s
        self._closing_since = 0.0
        self.deadline: float | None = None

    @property
    def closing(self) -> bool:
        return self.deadline is not None

    @property
    def too_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def over_for_s(self, seconds: float) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline + seconds

    @property
    def half_over(self) -> bool:
        """Of the time that is left for delivery at the end."""
        return self.deadline is not None and time.monotonic() > (self._closing_since + self.deadline) / 2

    @property
    def left_s(self) -> float:
        """Without end, while the job works."""
        return math.inf if self.deadline is None else self.deadline - time.monotonic()

    def end_in(self, seconds: float) -> None:
        self._closing_since = time.monotonic()
        self.deadline = self._closing_since + seconds

    def hurry(self, seconds: float) -> None:
        """It ends sooner, if it is to end at all."""
        if self.deadline is not None:
            self.deadline = min(self.deadline, time.monotonic() + seconds)

    def pause(self, failures: int, asked_s: float | None) -> Pause:
        """Exponential back-off with jitter, and at least what was asked for."""
        backoff = self._first_pause_s * 2 ** min(failures - 1, 10)
        seconds = min(max(LONGEST_PAUSE_S, self._first_pause_s), backoff) * random.uniform(0.7, 1.3)
        return Pause(time.monotonic(), max(seconds, asked_s or 0.0), asked_s)

    def rest_s(self, pause: Pause) -> float:
        """How much of it is left, as things are now."""
        until = pause.begun + pause.seconds
        if self.deadline is not None:
            if pause.asked_s is None:
                until = min(until, max(pause.begun, self._closing_since) + CLOSING_PAUSE_S)
            until = min(until, max(self.deadline - LAST_TRY_S, pause.begun + LAST_TRY_S))
        return until - time.monotonic()
