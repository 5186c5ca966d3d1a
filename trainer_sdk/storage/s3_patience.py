"""How long a storage that went silent is waited for.

The S3 libraries try a request again for 3 to 4 seconds. A storage that is restarted takes longer than that, and a job
that ends there loses hours. But an address that never answered is more likely a wrong one: that is told soon.
"""

from __future__ import annotations

import logging
import random
import time

log = logging.getLogger("trainer")

STRANGER_S = 3.0
"""For a storage that has not answered this process yet."""
PAUSE_S = 1.0
"""Between two attempts, on top of the libraries' own."""


class Patience:
    """With one storage, shared by all threads: as long as somebody is answered, it lasts.

    Without locks, which a forked child would inherit closed; a race costs a line in the log.
    """

    def __init__(self, endpoint: str, patience_s: float) -> None:
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._answered_at: float | None = None
        self._told = False

    def answered(self) -> None:
        """All is well."""
        self._answered_at = time.monotonic()
        if self._told:
            self._told = False
            log.info("%s answers again", self._endpoint)

    def goes_on(self, problem: str, failing_since: float, *, heard: bool) -> bool:
        """Whether to try again; returns after a pause if so.

        Args:
            problem: for the log, once an outage.
            failing_since: `time.monotonic()` when what is tried failed first.
            heard: the storage answered, though with an error of its own (5xx).
        """
        patience_s = min(STRANGER_S, self._patience_s) if self._answered_at is None and not heard else self._patience_s
        if not self._told:
            self._told = True
            log.warning("%s, trying for %.0f s more: %s", self._endpoint, patience_s, problem)
        if time.monotonic() - max(failing_since, self._answered_at or 0.0) >= patience_s:
            return False
        time.sleep(PAUSE_S * random.uniform(0.5, 1.5))
        return True


_with: dict[tuple[str, float], Patience] = {}


def patience_with(endpoint: str, patience_s: float) -> Patience:
    """What this process knows of that storage, whichever bucket it asks for."""
    return _with.setdefault((endpoint, patience_s), Patience(endpoint, patience_s))
