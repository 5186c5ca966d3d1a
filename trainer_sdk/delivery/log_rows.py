"""Log lines become rows of the platform's log page: several lines a row, and never more rows than the page keeps.

The page keeps about 2000 rows of a job and then deletes the newest (contract 2.3). So lines wait a moment for others;
every 50 rows the moment doubles. A job that talks without pause for a week comes to fewer than 1000 rows, and no line
is lost. Waiting lines are in ``log_lines.jsonl``, so they survive a killed process.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from trainer_sdk.delivery.journal import Record, open_to_append, read_events
from trainer_sdk.events import LogLine

log = logging.getLogger(__name__)

FIRST_WINDOW_S = 1.0
ROWS_OF_A_WINDOW = 50
MOST_LETTERS = 100_000
"""Of one row: a backend that is away for hours must be able to take what waited."""

Row = tuple[LogLine, list[int]]
"""The event, and the numbers of the lines in it."""


class LogRows:
    """The lines that wait. To be used by one thread at a time.

    Args:
        records: what was told before, for the rows that there are.
    """

    def __init__(self, path: Path, records: Sequence[Record]) -> None:
        earlier = [record for record in records if record["kind"] == LogLine.kind]
        told = {number for record in earlier for number in record.get("lines", ())}
        self._rows = len(earlier)
        waiting = [(line["number"], LogLine.model_validate(line["line"])) for line in read_events(path)]
        self._waiting = [(number, line) for number, line in waiting if number not in told]
        self._number = max([0, *told, *(number for number, _ in waiting)])
        self._due = time.monotonic()
        self._file = open_to_append(path)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def due_in_s(self) -> float | None:
        """Seconds until the lines are to become rows; None: no line waits."""
        return max(0.0, self._due - time.monotonic()) if self._waiting else None

    def add(self, line: LogLine) -> None:
        if not self._waiting:
            self._due = time.monotonic() + FIRST_WINDOW_S * 2 ** (self._rows // ROWS_OF_A_WINDOW)
        self._number += 1
        self._waiting.append((self._number, line))
        try:
            self._file.write(orjson.dumps({"number": self._number, "line": line.model_dump(mode="json")}) + b"\n")
            self._file.flush()
        except OSError as error:
            log.warning("a waiting log line cannot be written: %s", error)

    def take(self) -> list[Row]:
        """The waiting lines as rows, one for every level and type, in the order of their first lines."""
        rows: dict[tuple[str, str], list[tuple[int, LogLine]]] = {}
        for number, line in self._waiting:
            rows.setdefault((line.event_type, line.level), []).append((number, line))
        self._waiting = []
        self._rows += len(rows)
        return [(_joined([line for _, line in found]), [number for number, _ in found]) for found in rows.values()]

    def forget(self) -> None:
        """The rows are in the event log now: nothing waits any more."""
        with contextlib.suppress(OSError):  # a full disk; `lines` in the event log says which ones are told
            self._file.truncate(0)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def _joined(lines: list[LogLine]) -> LogLine:
    if len(lines) == 1:
        return lines[0]
    message = "\n".join(line.message for line in lines)
    if len(message) > MOST_LETTERS:
        message = "(earlier lines are only in the job's own output) ..." + message[-MOST_LETTERS:]
    return lines[0].model_copy(update={"message": message, "data": {}})
