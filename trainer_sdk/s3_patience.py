"""How long a storage that went silent is waited for.

The S3 libraries try a request again for 3 to 4 seconds. A storage that is restarted takes longer than that, and a job
that ends there loses hours. But an address that never answered is more likely a wrong one: that is told soon.
"""

from __future__ import annotations

import logging
import random
import threading
import time

log = logging.getLogger("trainer")

STRANGER_S = 3.0
"""For a storage that has not answered this process yet."""
PAUSE_S = 1.0
"""Between two attempts, on top of the libraries' own."""


class Patience:
    """With one storage, shared by all threads: as long as somebody is answered, it lasts."""

    def __init__(self, endpoint: str, patience_s: float) -> None:
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._known = False
        self._silent_since: float | None = None

    def answered(self) -> None:
        """All is well."""
        if self._known and self._silent_since is None:
            return
        with self._lock:
            silent_since, self._silent_since, self._known = self._silent_since, None, True
        if silent_since is not None:
            log.info("%s answers again after %.0f s", self._endpoint, time.monotonic() - silent_since)

    def goes_on(self, problem: str, *, heard: bool) -> bool:
        """Whether to try again; returns after a pause if so.

        Args:
            problem: for the log, once an outage.
            heard: it answered, though with an error of its own (5xx).
        """
        with self._lock:
            self._known |= heard
            now = time.monotonic()
            first = self._silent_since is None
            since = self._silent_since = now if self._silent_since is None else self._silent_since
            patience_s = self._patience_s if self._known else min(STRANGER_S, self._patience_s)
            if now - since >= patience_s:
                return False
        if first:
            log.warning("%s, trying for %.0f s more: %s", self._endpoint, patience_s, problem)
        time.sleep(PAUSE_S * random.uniform(0.5, 1.5))
        return True


_with: dict[tuple[str, float], Patience] = {}
_lock = threading.Lock()


def patience_with(endpoint: str, patience_s: float) -> Patience:
    """What this process knows of that storage, whichever bucket it asks for."""
    with _lock:
        return _with.setdefault((endpoint, patience_s), Patience(endpoint, patience_s))
