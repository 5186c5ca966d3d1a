"""What is known of a job at the moment it fails, so that nobody has to reproduce the failure to understand it."""

from __future__ import annotations

import logging
import os
import resource
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from trainer_sdk.errors import JobError
from trainer_sdk.events import Number, Numbers, Text
from trainer_sdk.failures.cgroup import memory_events, memory_peak_bytes

log = logging.getLogger("trainer")

LAST_LINES = 50
LONGEST_LINE = 1000
TAIL_BYTES = 2**17
SHM = Path("/dev/shm")

Witness = Callable[[], Mapping[str, Any]]
"""Says fields of `Evidence`. It may fail: then they are missing."""


class LastIteration(BaseModel):
    """One of the last iterations that the worker told of."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    iteration: int
    loss: Number
    """None: it was not finite."""
    losses: Numbers = {}
    """Its parts, by the model's names."""
    lr: Number


class Precondition(BaseModel):
    """Something that the job needs more of than there is."""

    model_config = ConfigDict(frozen=True)

    what: Text
    needed_bytes: int
    found_bytes: int


class Evidence(BaseModel):
    """``outcome.json``'s `evidence`. What is not known is null or empty."""

    model_config = ConfigDict(frozen=True)

    last_iterations: tuple[LastIteration, ...] = Field(
        (), description="the last 20 that were told of: epoch, iteration, loss (null: not finite), its parts, lr"
    )
    batch: int | None = Field(None, description="images at a time, over all devices, as it was when the job failed")
    accumulate: int | None = Field(None, description="batches of a step")
    imgsz: tuple[int, int] | None = Field(None, description="width and height of the input, in pixels")
    workers: int | None = Field(None, description="data loading processes of each device")
    peak_worker_bytes: int | None = Field(None, description="the most memory that one process of the training had")
    peak_gpu_bytes: int | None = Field(None, description="the most that torch took of one GPU")
    peak_container_bytes: int | None = Field(
        None, description="the most that all processes had together, by the cgroup; page cache counts too"
    )
    memory_events: dict[str, int] = Field(
        {}, description="the cgroup's counters since the job began, such as `oom_kill`, and `max`: the limit was met"
    )
    disk_free_bytes: dict[str, int] = Field({}, description="of work folder, data set cache and weights cache")
    shm_free_bytes: int | None = Field(None, description="of /dev/shm")
    exit_signal: str | None = Field(None, description="what ended the worker, such as `SIGKILL`")
    lacking: tuple[Precondition, ...] = Field(
        (), description="what was looked at before the work and is too little: what, needed_bytes, found_bytes"
    )
    log: tuple[Text, ...] = Field((), description="the last 50 lines of the job's own log")
    worker_log: tuple[Text, ...] = Field((), description="the last 50 lines of the worker's")


class RecentLines(logging.Handler):
    """Remembers the last lines of this process's log."""

    def __init__(self, count: int = LAST_LINES) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=count)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(shortened(self.format(record)))


class Observer:
    """Made when the job begins, so that counters can be told from what others did before."""

    def __init__(self) -> None:
        self._events_before = memory_events()
        self._recent = RecentLines()
        self.witnesses: list[Witness] = [self._machine, lambda: {"log": self._recent.lines}]

    def start(self) -> None:
        """Listens to the log from here on."""
        logging.getLogger().addHandler(self._recent)

    def evidence(self, error: BaseException, folders: Iterable[Path]) -> Evidence:
        """Everything that can be had now; a witness that fails is only missing.

        Args:
            error: its facts, and those of what caused it, win over what the witnesses say.
            folders: whose disks matter.
        """
        parts: list[Mapping[str, Any]] = [{"disk_free_bytes": {str(path): _free_bytes(path) for path in folders}}]
        for witness in self.witnesses:
            try:
                parts.append(witness())
            except Exception as failure:  # noqa: BLE001 - evidence is a help; what it fails of must not hide the error
                log.warning("some evidence is missing: %s: %s", type(failure).__name__, failure)
        return Evidence.model_validate(_together([*parts, *facts_of(error)]))

    def _machine(self) -> dict[str, Any]:
        before = self._events_before
        return {
            "memory_events": {name: count - before.get(name, 0) for name, count in memory_events().items()},
            "peak_container_bytes": memory_peak_bytes(),
            # The largest of all processes that we, or those that we waited for, have waited for.
            "peak_worker_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 or None,
            "shm_free_bytes": _free_bytes(SHM) if SHM.is_dir() else None,
        }


def _together(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Of peaks the highest, of anything else what was said last; nobody unsays anything."""
    found: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if value is not None:
                found[name] = max(value, found.get(name, value)) if name.startswith("peak_") else value
    return found


def facts_of(error: BaseException | None) -> Iterator[dict[str, Any]]:
    """Of the error and what it was raised from, the first cause first."""
    if error is not None:
        yield from facts_of(error.__cause__)
        if isinstance(error, JobError):
            yield error.facts


def last_lines(path: Path, count: int = LAST_LINES) -> tuple[str, ...]:
    """The end of a log, however long it is; a progress bar is its last state."""
    if not path.is_file():
        return ()
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
    return tuple(shortened(line) for line in lines if line.strip())[-count:]


def shortened(line: str) -> str:
    """A line that a person reads."""
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ... ({len(line)} characters)"


def _free_bytes(path: Path) -> int:
    """Of the file system of the folder, or of the one it would be made in."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(there).free
