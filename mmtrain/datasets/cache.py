"""Downloaded data sets on one volume, shared by every job that can see it.

    <cache>/<data set id>-<first 16 digits of its sha256>/    one version of one data set: an entry
        .complete       {source, sha256, files, size_bytes}; written last, taken away before anything is fetched
        .files.jsonl    what was fetched and checked: see download.py
    <cache>/.locks/<entry>.use     shared by every job that uses the entry, exclusive for who removes it;
                                   its time of change is when the entry was last used
    <cache>/.locks/<entry>.fetch   exclusive for the one job that completes the entry

Files appear and change by rename only, so completing an entry disturbs no job that reads it. The locks end with
their process, however it ends. They need a file system with flock: local disks, NFS 4, CephFS, Lustre with -o flock.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson

from trainer_sdk.workspace import take_lock, write_json

log = logging.getLogger("trainer")

MARKER, RECORD, LOCKS = ".complete", ".files.jsonl", ".locks"
FOREVER_S = float("inf")

_in_use: list[IO[bytes]] = []
"""One process is one job: what it uses stays, whatever becomes of the objects that named it."""


@dataclass(frozen=True)
class CacheEntry:
    """One version of one data set."""

    root: Path

    def use(self) -> None:
        """Nobody removes the entry until this process ends, or calls `leave_all`."""
        lock = _lock_path(self.root, "use").open("ab")
        fcntl.flock(lock, fcntl.LOCK_SH)
        os.utime(lock.fileno())
        _in_use.append(lock)
        self.root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def completing(self) -> Iterator[None]:
        """Only one job at a time completes an entry; the others wait, and find it complete."""
        path = _lock_path(self.root, "fetch")
        lock = take_lock(path)
        if lock is None:
            log.info("another job fetches this data set into %s: waiting for it", self.root)
            lock = take_lock(path, FOREVER_S)
        assert lock is not None
        with lock:
            yield

    def mark(self, source: str, sha256: str) -> None:
        """Says that everything is there that was asked for."""
        if (self.root / MARKER).exists():
            return
        sizes = [size for _, size in files_below(self.root)]
        write_json(
            self.root / MARKER, {"source": source, "sha256": sha256, "files": len(sizes), "size_bytes": sum(sizes)}
        )

    def unmark(self) -> None:
        (self.root / MARKER).unlink(missing_ok=True)


def entry_name(dataset_id: str, sha256: str) -> str:
    """Of the folder; the full hash is in the marker."""
    return f"{dataset_id}-{sha256[:16]}"


def leave_all() -> None:
    """Gives up what this process uses; for a process that outlives its job."""
    while _in_use:
        _in_use.pop().close()


def make_room(cache: Path, incoming_bytes: int, max_bytes: float) -> None:
    """Removes the least recently used entries until the rest and what is to come fit the limit, and the disk.

    Entries in use stay, and a data set larger than the limit is fetched all the same: a job that runs beats a limit.
    """
    sizes = {root: _size_bytes(root) for root in _entries(cache)}
    used = sum(sizes.values())
    limit = min(max_bytes, used + shutil.disk_usage(cache).free)
    for root in sorted(sizes, key=_last_used):
        if used + incoming_bytes <= limit:
            return
        if _remove(root):
            log.info("removed %s from the data set cache to make room", root.name)
            used -= sizes[root]
    if used + incoming_bytes > limit:
        gb = 1e-9
        log.warning(
            "the data set cache %s needs %.2f GB where %.2f GB are left to it: everything in it is in use",
            *(cache, (used + incoming_bytes) * gb, limit * gb),
        )


def _entries(cache: Path) -> list[Path]:
    """Ours only: the folder may hold what other programs put there."""
    return [path for path in cache.iterdir() if (path / RECORD).is_file()]


def _remove(root: Path) -> bool:
    """Whether it could be: not while a job uses it."""
    lock = take_lock(_lock_path(root, "use"))
    if lock is None:
        return False
    with lock:
        if root.exists():  # else another job was faster
            (root / MARKER).unlink(missing_ok=True)
            shutil.rmtree(root)
    return True


def _last_used(root: Path) -> float:
    lock = _lock_path(root, "use")
    return (lock if lock.exists() else root).stat().st_mtime


def _size_bytes(root: Path) -> int:
    """As its marker says; an entry that was never completed is measured."""
    try:
        return int(orjson.loads((root / MARKER).read_bytes())["size_bytes"])
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError):
        return sum(size for _, size in files_below(root))


def files_below(root: Path) -> Iterator[tuple[str, int]]:
    """(path below the root, size in bytes) of every file, in one pass over the folders; what vanishes meanwhile is not
    there."""
    folders, start = [str(root)], len(str(root)) + 1
    while folders:
        with suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                with suppress(FileNotFoundError):
                    yield entry.path[start:], entry.stat(follow_symlinks=False).st_size


def _lock_path(root: Path, purpose: str) -> Path:
    path = root.parent / LOCKS / f"{root.name}.{purpose}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
