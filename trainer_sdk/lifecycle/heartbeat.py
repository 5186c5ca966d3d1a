"""Signs of life while nothing else is to be told: a file for Kubernetes' probe, and the last progress again.

The backend knows no dead jobs but those that it hears nothing of (contract 8.1).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trainer_sdk.events import Event, Progress, Started

FILE = "HEARTBEAT"
TOUCH_EVERY_S = 5.0


class Heartbeat:
    """Use as a context manager.

    Args:
        file: its mtime says when we last lived.
        interval_s: between two progress events, at most.
        tell: takes an event at any time, from any thread.
    """

    def __init__(self, file: Path, interval_s: float, tell: Callable[[Event], None]) -> None:
        self._file = file
        self._interval_s = interval_s
        self._tell = tell
        self._last: Progress | None = None
        self._told_at = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def hear(self, event: Event) -> None:
        """Everything that is told, so that only silence is filled."""
        if isinstance(event, Started | Progress):
            self._last = Progress(  # without what belongs to its epoch: the backend adds a row for each `metrics`
                current_epoch=event.current_epoch,
                total_epochs=event.total_epochs,
                progress_percent=event.progress_percent,
            )
            self._told_at = time.monotonic()

    def _beat(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # a full disk, or a folder that is gone: the probe will say so
                self._file.touch()
            if self._last is not None and time.monotonic() >= self._told_at + self._interval_s:
                self._tell(self._last)
            silence_s = max(0.0, self._told_at + self._interval_s - time.monotonic()) if self._last else TOUCH_EVERY_S
            if self._stopped.wait(min(TOUCH_EVERY_S, silence_s)):
                return
