"""Files that are there whole or not at all, for many small ones at once.

Plain system calls, and few: each lets another thread run, and with 64 threads these changes cost more than the work.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

PART_SUFFIX = ".part"
"""Ends the name of a file that is not whole; one that no process writes any more was left by a kill."""
COPY_BYTES = 8 * 2**20


class PartFile:
    """Grows beside its target."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, piece: Buffer) -> int:
        """All of it. Raises: OSError."""
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return memoryview(piece).nbytes

    def restart(self) -> None:
        """Empties it."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)

    def take(self, source: IO[bytes]) -> None:
        while piece := source.read(COPY_BYTES):
            self.write(piece)


@contextmanager
def growing(target: Path) -> Iterator[PartFile]:
    """Takes the place of `target` at the end, not when the block raises. Raises: OSError."""
    folder = os.path.dirname(target)  # noqa: PTH120  pathlib would double the cost
    # Short: the target's name may be as long as the file system allows. One thread writes one file at a time.
    part = f"{folder}/.{os.getpid()}-{threading.get_ident()}{PART_SUFFIX}"
    descriptor = _created(part, folder)
    try:
        try:
            yield PartFile(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, target)  # noqa: PTH105
    except BaseException:
        Path(part).unlink()
        raise


def _created(path: str, folder: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        return os.open(path, flags, 0o666)
