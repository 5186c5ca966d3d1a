"""Takes one event to the backend, or decides that it need not, or must not, arrive."""

from __future__ import annotations

import logging

from trainer_sdk.delivery.backends import Backend, Rejected, Unavailable
from trainer_sdk.delivery.journal import Record
from trainer_sdk.delivery.known_state import CANCELLED, CHANGES_STATUS, OUTCOMES, may_be_told

log = logging.getLogger(__name__)

MOST_500S = 6
DISPENSABLE = frozenset({"started", "progress", "log"})
"""At the end, these must not hold up the outcome behind them: not when the backend cannot take one (500), nor when
it is so slow that not all of them can arrive in time."""


class Courier:
    """Used by one thread.

    Args:
        max_retries: of something dispensable; None: without end.
        late: nobody works on the job any more; old events are delivered.
    """

    def __init__(self, backend: Backend, max_retries: int | None, *, late: bool) -> None:
        self._backend = backend
        self._max_retries = max_retries
        self._late = late
        self._failures = self._broken = 0
        self.refused = 0
        """Events that are done and did not arrive."""
        self.answered = True
        """The backend, to the last event that was delivered or left out."""
        self.over: str | None = None
        """The backend's state of the job, when it was one in which nobody goes on."""

    def deliver(self, record: Record, *, closing: bool) -> bool:
        """One event. What the backend refused, or must not hear, is done too.

        Returns:
            whether it is an outcome that was refused: a later run may try again.

        Raises:
            Unavailable: to be tried again.
        """
        try:
            if self._respects_state(record):
                self._backend.deliver(record["route"], record["body"], _headers(record))
        except Rejected as error:
            self.refused += 1
            log.warning("the backend refused event %d (%s): %s", record["sequence"], record["kind"], error)
            self._failures = self._broken = 0
            self.answered = True
            return record["kind"] in OUTCOMES
        except Unavailable as error:
            self._failures += 1
            self._broken += error.broke
            if not self._may_give_up(record, closing=closing):
                raise
            self.leave_out(record, str(error))
            self._failures = self._broken = 0
            self.answered = False
            return False
        except Exception as error:  # the thread lives on; its words might quote a secret
            log.error("event %d cannot be sent, by a bug of ours: %s", record["sequence"], type(error).__name__)
            raise Unavailable(type(error).__name__) from error
        self._failures = self._broken = 0
        self.answered = True
        return False

    def leave_out(self, record: Record, why: str) -> None:
        self.refused += 1
        log.warning("event %d (%s) is left out: %s", record["sequence"], record["kind"], why)

    def close(self) -> None:
        self._backend.close()

    def _respects_state(self, record: Record) -> bool:
        if record["kind"] not in CHANGES_STATUS or not record["route"].startswith("/training/"):
            return True
        state = self._backend.state(record["route"].partition("/callback/")[0])
        if may_be_told(record["kind"], state, late=self._late):
            return True
        if state in CANCELLED:
            self.over = state
        log.info("event %d (%s) is not sent: the backend has the job as %s", record["sequence"], record["kind"], state)
        return False

    def _may_give_up(self, record: Record, *, closing: bool) -> bool:
        if record["kind"] not in DISPENSABLE:
            return False
        too_often = self._max_retries is not None and self._failures > self._max_retries
        return too_often or (closing and self._broken >= MOST_500S)


def _headers(record: Record) -> dict[str, str]:
    number = str(record["sequence"])
    return {"X-Event-Sequence": number, "Idempotency-Key": record.get("key", f"{record['route']}-{number}")}
