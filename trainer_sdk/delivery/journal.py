"""``events.jsonl``: every event ever told, in order. A thread brings it to the disk for good, many events at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import IO, Any

import orjson

log = logging.getLogger(__name__)

Record = dict[str, Any]
STUCK_S = 5.0
"""A disk that takes longer must not silence the job."""


class Journal:
    """The append-only log of one job. What was appended survives a killed process; what is `durable`, a power cut."""

    def __init__(self, path: Path) -> None:
        self._file = open_to_append(path)
        self._changed = threading.Condition()
        self._appended = self._durable = 0
        self._closing = False
        self._thread = threading.Thread(target=self._bring_to_disk, name="journal", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> None:
        """To be called by one thread at a time. Never raises for a full disk."""
        try:
            self._file.write(orjson.dumps(record) + b"\n")
            self._file.flush()
        except OSError as error:
            log.warning(
                "the event log cannot be written (%s); event %d is sent all the same", error, record["sequence"]
            )
            return
        with self._changed:
            self._appended = record["sequence"]
            self._changed.notify_all()

    def wait_until_durable(self, sequence: int) -> None:
        """Returns when the event is on the disk, or cannot be brought there."""
        with self._changed:
            self._changed.wait_for(lambda: self._durable >= min(sequence, self._appended), timeout=STUCK_S)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(STUCK_S)
        with contextlib.suppress(OSError):  # a full disk: the events were told all the same
            self._file.close()

    def _bring_to_disk(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._appended > self._durable)
                reached = self._appended
                if reached <= self._durable:
                    return
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                log.warning("the event log does not reach the disk: %s", error)
            with self._changed:
                self._durable = reached
                self._changed.notify_all()


def open_to_append(path: Path) -> IO[bytes]:
    """A file of lines."""
    file = path.open("ab")
    if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        file.write(b"\n")  # the last writer was killed inside a line; `read_events` skips the torn one
    return file


def read_events(path: Path) -> list[Record]:
    """All whole records of an event log; a torn line (killed writer, full disk) is skipped."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):
            records.append(orjson.loads(line))
    return records
