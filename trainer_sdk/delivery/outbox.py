"""Events go to disk first and to the backend from there; whoever tells never waits for HTTP.

``events.jsonl`` holds every event ever told, in order; ``outbox.json`` how far delivery came. A later run of the
same job, or ``python -m trainer_sdk.replay``, delivers what an earlier one could not (docs/decisions/0014).
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson

from trainer_sdk.callback import CallbackSettings
from trainer_sdk.delivery.backends import Backend, Unavailable
from trainer_sdk.delivery.courier import DISPENSABLE, Courier
from trainer_sdk.delivery.journal import Journal, Record, read_events
from trainer_sdk.delivery.known_state import OUTCOMES
from trainer_sdk.delivery.log_rows import LogRows
from trainer_sdk.delivery.patience import Patience
from trainer_sdk.delivery.pending import Pending
from trainer_sdk.events import Event, LogLine
from trainer_sdk.workspace import write_json

log = logging.getLogger(__name__)

EVENTS, CURSOR, LINES = "events.jsonl", "outbox.json", "log_lines.jsonl"
GRACE_S = 1.0
"""For a call that is on its way when the time is over."""


class Outbox:
    """The append-only log of one job and the thread that delivers from it.

    Args:
        access: how patient to be.
        trains: the job is a training; others have no place at the backend for lines and progress (contract 2.3),
            and theirs would land on the training of the same number.
        late: nobody works on the job any more; old events are delivered.
    """

    def __init__(
        self,
        folder: Path,
        job_id: str,
        backend: Backend,
        access: CallbackSettings | None = None,
        *,
        trains: bool = True,
        late: bool = False,
    ) -> None:
        self._path = folder / EVENTS
        self._cursor_path = folder / CURSOR
        self._job_id = job_id
        self._wire_id = int(job_id) if job_id.isdecimal() and len(job_id) <= 18 else job_id
        access = access or CallbackSettings()
        self._courier = Courier(backend, access.max_retries, late=late)
        self._trains = trains
        self._run = secrets.token_hex(6)
        """In every key: a run of this job on another machine counts its events from 1 too."""
        records = read_events(self._path)
        delivered = _read_cursor(self._cursor_path)
        self._sequence = max(records[-1]["sequence"] if records else 0, delivered)  # a full disk may have cost records
        self._pending = Pending()
        for record in records:
            if record["sequence"] > delivered and record["route"]:
                self._pending.add(record)
        self._rows = LogRows(folder / LINES, records)
        self.inherited = len(self._pending) + self._rows.waiting
        """Events that an earlier run could not deliver."""
        self._changed = threading.Condition()
        self._refused_outcomes = self._failures = 0
        self._call_s = 0.0
        """What the last call took; the first one says little, since it imports the HTTP library."""
        self._patience = Patience(access.retry_delay_s)
        self._ended = False
        self._journal = Journal(self._path)
        self._thread = threading.Thread(target=self._deliver_all, name="outbox", daemon=True)
        self._thread.start()

    @property
    def undelivered(self) -> int:
        return len(self._pending) + self._rows.waiting + self._refused_outcomes

    @property
    def refused(self) -> int:
        """Events that the backend took for wrong (4xx)."""
        return self._courier.refused

    @property
    def over(self) -> str | None:
        """``cancelled`` or ``stopped``, once the backend has said so."""
        return self._courier.over

    def tell(self, event: Event) -> None:
        """Records the event and returns; delivery is the thread's business. Never raises for a full disk.

        After an outcome nothing is told any more: it would revive the job.
        """
        with self._changed:
            if self._ended:
                log.debug("told after the outcome, and not sent: %s", event.kind)
            elif isinstance(event, LogLine):
                self._rows.add(event)
                self._changed.notify_all()
            else:
                self._ended = event.kind in OUTCOMES
                if self._ended:
                    self._write_rows()
                self._record(self._as_record(event))

    def repeat_outcome(self) -> None:
        """Tells the last outcome once more, unless it is still on its way."""
        outcomes = [record for record in read_events(self._path) if record["kind"] in OUTCOMES]
        with self._changed:
            if outcomes and not self._pending.has(OUTCOMES):
                self._record(outcomes[-1])

    def close(self, timeout_s: float) -> bool:
        """Delivers what is left within the time given; what then remains stays for a later run.

        Returns:
            Whether everything was delivered; what the backend refused for good counts, except an outcome.
        """
        with self._changed:
            self._ended = True
            self._write_rows()
            self._patience.end_in(timeout_s)
            self._changed.notify_all()
        while self._thread.is_alive() and not self._patience.over_for_s(GRACE_S):
            self._thread.join(0.2)  # in pieces: a signal may bring the deadline forward
        self._courier.close()
        self._journal.close()
        self._rows.close()
        return not self.undelivered

    def hurry(self, timeout_s: float) -> None:
        """Shortens the time that `close` waits. Safe in a signal handler: the lock is re-entrant."""
        with self._changed:
            self._patience.hurry(timeout_s)
            self._changed.notify_all()

    def _as_record(self, event: Event) -> Record:
        heard = self._trains or not event.route.startswith(("/training/", "/validation/"))
        route = event.route.replace("{id}", self._job_id) if heard else None
        return {"kind": event.kind, "route": route, "body": event.body(self._wire_id)}

    def _write_rows(self) -> None:
        """The waiting log lines become events. To be called with the lock."""
        if self._rows.waiting:
            for row, lines in self._rows.take():
                self._record(self._as_record(row) | {"lines": lines})
            self._rows.forget()

    def _record(self, event: Record) -> None:
        """To be called with the lock."""
        self._sequence += 1
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        key = f"{self._job_id}-{self._run}-{self._sequence}"
        record: Record = {**event, "sequence": self._sequence, "key": key, "time": now}
        self._journal.append(record)
        if record["route"]:
            self._pending.add(record)
        self._changed.notify_all()

    def _deliver_all(self) -> None:
        while (record := self._next()) is not None:
            try:
                self._journal.wait_until_durable(record["sequence"])  # or its number might be given twice
                begun = time.monotonic()
                kept = self._courier.deliver(record, closing=self._patience.closing)
                self._call_s = time.monotonic() - begun
            except Unavailable as error:
                self._failures += 1
                if self._failures == 1:
                    log.warning("the backend does not answer (%s); the job goes on and tells it later", error)
                with self._changed:
                    self._pending.release()
                if not self._pause(error.retry_after_s):
                    return
                continue
            if self._courier.answered:
                if self._failures:
                    log.info("the backend answers again after %d failed calls", self._failures)
                self._failures = 0
            self._settle(record, kept=kept)

    def _next(self) -> Record | None:
        """The oldest undelivered event; None when the outbox is closed and nothing, or no time, is left."""
        with self._changed:
            while not self._patience.closing:
                if self._rows.due_in_s == 0:
                    self._write_rows()
                if self._pending:
                    break
                self._changed.wait(self._rows.due_in_s)
            if self._patience.too_late:
                return None
            if self._patience.half_over and not self._failures:  # a dead one hears nothing either way
                self._make_way_for_the_outcome()
            return self._pending.hold()

    def _make_way_for_the_outcome(self) -> None:
        """At the end, when the backend is so slow that not all of it can arrive: what is dispensable goes first."""
        while len(self._pending) * self._call_s > self._patience.left_s and self._pending.has(OUTCOMES):
            record = self._pending.hold()
            if record is None or record["kind"] not in DISPENSABLE:
                return
            self._courier.leave_out(record, "the backend is too slow")
            self._pending.done(record)

    def _pause(self, asked_s: float | None) -> bool:
        """False: the time to deliver is over."""
        pause = self._patience.pause(self._failures, asked_s)
        with self._changed:
            while (rest := self._patience.rest_s(pause)) > 0:
                self._changed.wait(rest)
            return not self._patience.too_late

    def _settle(self, record: Record, *, kept: bool) -> None:
        """Done with this event; but a refused outcome is tried again by a later run, unless later events follow it."""
        with self._changed:
            self._pending.done(record)
            self._refused_outcomes = int(kept)
        if kept:
            return
        try:
            write_json(self._cursor_path, {"delivered": record["sequence"]})
        except OSError as error:
            log.warning("the delivery state cannot be written: %s", error)


def _read_cursor(path: Path) -> int:
    return int(orjson.loads(path.read_bytes())["delivered"]) if path.exists() else 0
