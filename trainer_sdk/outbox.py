"""Events go to disk first and to the backend from there; whoever tells never waits for HTTP.

``events.jsonl`` holds every event ever told, in order; ``outbox.json`` how far delivery came. A later run of the
same job delivers what an earlier one could not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from trainer_sdk.backends import Backend, Rejected, Unavailable
from trainer_sdk.events import Event
from trainer_sdk.workspace import write_json

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
MOST_500S = 6
DISPENSABLE = frozenset({"started", "progress", "log"})
"""At the end, one of these that the backend cannot take (500) must not hold up the outcome behind it."""
OUTCOMES = frozenset({"completed", "failed"})

Record = dict[str, Any]


class Outbox:
    """The append-only log of one job and the thread that delivers from it."""

    def __init__(self, folder: Path, job_id: str, backend: Backend) -> None:
        self._path = folder / "events.jsonl"
        self._cursor_path = folder / "outbox.json"
        self._job_id = job_id
        self._wire_id = int(job_id) if job_id.isdecimal() and len(job_id) <= 18 else job_id
        self._backend = backend
        records = read_events(self._path)
        delivered = _read_cursor(self._cursor_path)
        self._sequence = max(records[-1]["sequence"] if records else 0, delivered)  # a full disk may have cost records
        self._pending: deque[Record] = deque(record for record in records if record["sequence"] > delivered)
        self._changed = threading.Condition()
        self._refused_outcomes = 0
        self._broken = 0
        self._deadline: float | None = None
        self._file = self._open_log()
        self._thread = threading.Thread(target=self._deliver_all, name="outbox", daemon=True)
        self._thread.start()

    @property
    def undelivered(self) -> int:
        return len(self._pending) + self._refused_outcomes

    def tell(self, event: Event) -> None:
        """Records the event and returns; delivery is the thread's business. Never raises for a full disk."""
        route = event.route.replace("{id}", self._job_id)
        with self._changed:
            self._record({"kind": event.kind, "route": route, "body": event.body(self._wire_id)})

    def repeat_outcome(self) -> None:
        """Tells the last outcome once more, unless it is still on its way."""
        outcomes = [record for record in read_events(self._path) if record["kind"] in OUTCOMES]
        with self._changed:
            if outcomes and not any(record["kind"] in OUTCOMES for record in self._pending):
                self._record(outcomes[-1])

    def close(self, timeout_s: float) -> bool:
        """Delivers what is left within the time given; what then remains stays for a later run.

        Returns:
            Whether everything was delivered; what the backend refused for good counts, except an outcome.
        """
        with self._changed:
            self._deadline = time.monotonic() + timeout_s
            self._changed.notify_all()
        while self._thread.is_alive() and time.monotonic() < self._deadline + 1.0:
            self._thread.join(0.2)  # in pieces: a signal may bring the deadline forward
        self._backend.close()
        with contextlib.suppress(OSError):  # a full disk: the events were told all the same
            self._file.close()
        return not self.undelivered

    def hurry(self, timeout_s: float) -> None:
        """Shortens the time that `close` waits. Safe in a signal handler: the lock is re-entrant."""
        with self._changed:
            if self._deadline is not None:
                self._deadline = min(self._deadline, time.monotonic() + timeout_s)
                self._changed.notify_all()

    def _open_log(self) -> Any:
        file = self._path.open("ab")
        if self._path.stat().st_size and not self._path.read_bytes().endswith(b"\n"):
            file.write(b"\n")  # the last writer was killed inside a line; `read_events` skips the torn one
        return file

    def _record(self, event: Record) -> None:
        """To be called with the lock."""
        self._sequence += 1
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record: Record = {**event, "sequence": self._sequence, "time": now}
        self._append(record)
        self._pending.append(record)
        self._changed.notify_all()

    def _append(self, record: Record) -> None:
        try:
            self._file.write(orjson.dumps(record) + b"\n")
            self._file.flush()
            if record["kind"] in OUTCOMES:
                os.fsync(self._file.fileno())
        except OSError as error:
            log.warning(
                "the event log cannot be written (%s); event %d is sent all the same", error, record["sequence"]
            )

    def _deliver_all(self) -> None:
        failures = 0
        while (record := self._next()) is not None:
            try:
                refused = self._call(record)
            except Unavailable as error:
                failures += 1
                if failures == 1:
                    log.warning("the backend does not answer (%s); the job goes on and tells it later", error)
                if not self._pause(failures):
                    return
                continue
            if failures:
                log.info("the backend answers again after %d failed calls", failures)
            failures = 0
            self._settle(record, refused=refused)

    def _call(self, record: Record) -> bool:
        """One delivery.

        Returns:
            whether the backend refused the event for good.

        Raises:
            Unavailable: to be tried again.
        """
        try:
            self._backend.deliver(record["route"], record["body"])
        except Rejected as error:
            log.warning("the backend refused event %d (%s): %s", record["sequence"], record["kind"], error)
            return True
        except Unavailable as error:
            self._broken += error.broke
            if self._deadline is None or self._broken < MOST_500S or record["kind"] not in DISPENSABLE:
                raise
            log.warning("event %d (%s) is left out: %s", record["sequence"], record["kind"], error)
        self._broken = 0
        return False

    def _next(self) -> Record | None:
        """The oldest undelivered event; None when the outbox is closed and nothing, or no time, is left."""
        with self._changed:
            while not self._pending and self._deadline is None:
                self._changed.wait()
            too_late = self._deadline is not None and time.monotonic() >= self._deadline
            return self._pending[0] if self._pending and not too_late else None

    def _pause(self, failures: int) -> bool:
        """Exponential back-off with jitter; False when the time to deliver is over."""
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - 1, 10)) * random.uniform(0.7, 1.3)
        wake = time.monotonic() + pause
        with self._changed:
            if self._deadline is None:
                self._changed.wait_for(lambda: self._deadline is not None, timeout=pause)
            if self._deadline is None:
                return True
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                return False
            # Closing: the backend had its chance to recover while we trained; ask often, the time is short.
            self._changed.wait(max(0.0, min(wake - time.monotonic(), 1.0, remaining)))
            return True

    def _settle(self, record: Record, *, refused: bool) -> None:
        """Done with this event; but a refused outcome is tried again by a later run, unless later events follow it."""
        kept = refused and record["kind"] in OUTCOMES
        with self._changed:
            self._pending.popleft()
            self._refused_outcomes = int(kept)
        if kept:
            return
        try:
            write_json(self._cursor_path, {"delivered": record["sequence"]})
        except OSError as error:
            log.warning("the delivery state cannot be written: %s", error)


def read_events(path: Path) -> list[Record]:
    """All whole records of an event log; a torn line (killed writer, full disk) is skipped."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):
            records.append(orjson.loads(line))
    return records


def _read_cursor(path: Path) -> int:
    return int(orjson.loads(path.read_bytes())["delivered"]) if path.exists() else 0
