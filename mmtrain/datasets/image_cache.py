"""A folder that holds as many images as it may, shared by all processes of a job.

An epoch reads every image once, in a new order: the image that was not used for longest is then the one that is
needed soonest, and evicting it, as caches usually do, throws out what is about to be read. Here what came first stays;
once the folder is full, the rest passes through a small part of it (docs/decisions/0007).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PASSING_BYTES = 256 * 2**20
"""Enough for what the loaders are about to read, at a few MB an image."""
FORGOTTEN_S = 600.0
"""Longer than a loader's batches wait for their turn; whoever comes later reads the bucket."""
LEAVE_FREE_BYTES = 2**30
"""Checkpoints and logs want the same disk."""


class ImageCache:
    """Bytes by name, at most `capacity_bytes` on the disk. Any number of processes may share it.

    Nothing is remembered but in files: they appear by rename, and the one that holds the sum of the kept bytes is also
    the lock that keeps writers apart.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        self._kept = folder / "kept"
        self._passing = folder / "passing"
        self._ledger = folder / "kept_bytes"
        self._passing_bytes = min(PASSING_BYTES, capacity_bytes // 4)
        self._kept_bytes = capacity_bytes - self._passing_bytes
        for part in (self._kept, self._passing):
            part.mkdir(parents=True, exist_ok=True)
        self._ledger.touch()

    def has(self, name: str) -> bool:
        file = _file_name(name)
        return (self._kept / file).exists() or (self._passing / file).exists()

    def take(self, name: str) -> bytes | None:
        """The bytes, or None. What only passed through is gone afterwards: its next use is an epoch away."""
        file = _file_name(name)
        try:
            return (self._kept / file).read_bytes()
        except FileNotFoundError:
            passing = self._passing / file
        try:
            found = passing.read_bytes()
        except FileNotFoundError:
            return None
        passing.unlink(missing_ok=True)
        return found

    def keep(self, name: str, data: bytes) -> bool:
        """Stores for good; False when there is no room."""
        with self._locked() as ledger:
            if (self._kept / _file_name(name)).exists():
                return True
            total = int(ledger.read() or 0) + len(data)
            if total > self._kept_bytes or not self._disk_has_room(len(data)):
                return False
            ledger.seek(0)
            ledger.write(f"{total}\n")  # it only grows, so the older number is overwritten whole
            ledger.flush()  # before the file: a process killed in between wastes room, no more
            _write(self._kept / _file_name(name), data)
            return True

    def pass_on(self, name: str, data: bytes) -> bool:
        """Stores for one reader who comes soon; False when too many wait for theirs."""
        with self._locked():
            if self._waiting_bytes() + len(data) > self._passing_bytes or not self._disk_has_room(len(data)):
                return False
            _write(self._passing / _file_name(name), data)
            return True

    def _waiting_bytes(self) -> int:
        """Removes on its way what nobody will come for, after an epoch that was broken off."""
        total = 0
        for path in self._passing.iterdir():
            try:
                found = path.stat()
            except FileNotFoundError:  # its reader came
                continue
            if time.time() - found.st_mtime > FORGOTTEN_S:
                path.unlink(missing_ok=True)
            else:
                total += found.st_size
        return total

    def _disk_has_room(self, needed_bytes: int) -> bool:
        return shutil.disk_usage(self._kept).free - needed_bytes > LEAVE_FREE_BYTES

    @contextmanager
    def _locked(self) -> Iterator[TextIO]:
        """Keeps other writers out, in this process and others; gives the file with the sum of the kept bytes."""
        with self._ledger.open("r+") as ledger:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            yield ledger


def _file_name(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all. No fsync: after a power cut the job starts over, with an empty folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
