"""What the operating system says, by its number, in words: whose turn it is, and what to do."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from trainer_sdk.errors import JobError, NetworkError, OutOfMemory, ResourceError, disk_full

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
HINTS = {
    errno.EACCES: "check the owner and the rights of the folder: the job runs as uid 1000 in the container",
    errno.EPERM: "check the owner and the rights of the folder: the job runs as uid 1000 in the container",
    errno.EROFS: "mount it for writing, or name another folder",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or write to another file system",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or lower workers",
    errno.ENFILE: "the machine has too many files open: raise fs.file-max, or run fewer jobs on it",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, or the container's pids limit), or lower workers",
    errno.EIO: "the disk or its connection fails: look at the machine's kernel log",
    errno.ESTALE: "the network file system lost the file: mount it again",
    errno.ENXIO: "the device is gone: look at the machine's kernel log",
    errno.ENODEV: "the device is gone: look at the machine's kernel log",
}
"""Of what the machine lacks."""
OF_THE_NETWORK = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN,
    errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EADDRNOTAVAIL,
}  # fmt: skip


def of_the_machine(error: OSError, where: Path | str | None = None) -> ResourceError | None:
    """What the machine lacks; None when the number says nothing of the kind.

    Args:
        where: the folder, if the error itself does not name a file.
    """
    return lacking(error.errno, error.filename or where)


def lacking(number: int | None, where: Path | str | None = None) -> ResourceError | None:
    """As `of_the_machine`, for a number that came without its exception."""
    if number in NO_SPACE:
        return disk_full(OSError(number, os.strerror(number)), Path(where or "the job's folder"))
    if number == errno.ENOMEM:
        return OutOfMemory("out of memory: the system gives no more", hint="raise the memory limit, or lower workers")
    if number not in HINTS:
        return None
    place = f"{where}: " if where else ""
    return ResourceError(f"{place}{os.strerror(number)} ({errno.errorcode[number]})", hint=HINTS[number])


def named(error: OSError, where: Path | str | None = None) -> JobError | None:
    """What the machine lacks, or that somebody cannot be reached; None when the number says neither."""
    if isinstance(error, socket.gaierror) or error.errno in OF_THE_NETWORK:
        return NetworkError(f"{type(error).__name__}: {error}", hint="check the address and the network")
    return of_the_machine(error, where)
