"""Whether the backend still wants the job: asked now and then, on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

UNWANTED = frozenset({"cancelled", "stopped"})
LEAST_S = 2.0
"""Between two questions, however short the epochs are."""


class Watch:
    """Looks at one job's state. A guest: a backend that does not answer has said nothing.

    Args:
        ask: the state as the backend has it; None when it does not say. Called on this thread alone.
        tell: called there once, with a state of `UNWANTED`.
    """

    def __init__(self, ask: Callable[[], str | None], tell: Callable[[str], None], every_s: float) -> None:
        self._ask = ask
        self._tell = tell
        self._every_s = every_s
        self._wake, self._at_once, self._looked = threading.Event(), threading.Event(), threading.Event()
        self._ended = False
        self.unwanted: str | None = None
        """The state that says so."""
        self._thread = threading.Thread(target=self._look_until_the_end, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def soon(self) -> None:
        """An epoch has ended: a good moment to ask."""
        self._wake.set()

    def end(self, patience_s: float) -> str | None:
        """Looks once more, if the answer comes in time. Returns the state that says that the job is not wanted."""
        self._looked.clear()
        self._ended = True
        self._at_once.set()
        self._wake.set()
        self._looked.wait(patience_s if self._thread.is_alive() else 0.0)
        return self.unwanted

    def _look_until_the_end(self) -> None:
        self._at_once.wait(min(LEAST_S, self._every_s))  # the job's first call is more urgent
        while self.unwanted is None:
            last, began = self._ended, time.monotonic()
            state = self._ask()
            if state in UNWANTED:
                self.unwanted = state
                self._tell(state)
            if last:
                break
            self._wake.wait(self._every_s)
            self._wake.clear()
            self._at_once.wait(max(0.0, min(LEAST_S, self._every_s) - (time.monotonic() - began)))
        self._looked.set()
