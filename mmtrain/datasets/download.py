"""Objects into a folder: many at once, each checked, continued where an earlier run was stopped.

What was received is recorded, one JSON line a file: [path, size in bytes, ETag]. A later run compares these lines, the
sizes of the files and the listing, and fetches what differs; it reads no file again. That suffices: a file appears by
rename after its bytes were checked, and one torn later has another size. Bytes that rot in place do not change
the size; the inspection, which opens every picture, is there for these.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson

from mmtrain.datasets.cache import RECORD, files_below
from trainer_sdk.aside import each
from trainer_sdk.errors import DatasetError, NetworkError, ResourceError, disk_full
from trainer_sdk.storage.partfile import PART_SUFFIX
from trainer_sdk.storage.protocol import MissingObject, Storage, StoredObject
from trainer_sdk.workspace import write_atomically

THREADS = 64
"""Small objects wait more than they move: 64 requests under way took 2/3 of the time of 32, more brought nothing."""

Report = Callable[[int, int], None]
"""Called with (done, total)."""


def outdated(wanted: Mapping[str, StoredObject], root: Path) -> list[str]:
    """Paths below `root` that are not there as the storage has them; parts that a killed job left are removed."""
    recorded = _read_record(root / RECORD)
    present = dict(files_below(root))
    for path in present:
        if path.endswith(PART_SUFFIX):
            (root / path).unlink()
    return [
        path
        for path, found in wanted.items()
        if present.get(path) != found.size_bytes or recorded.get(path) != (found.size_bytes, found.etag)
    ]


def download(
    storage: Storage, wanted: Mapping[str, StoredObject], paths: list[str], root: Path, report: Report
) -> set[str]:
    """Fetches `paths` of `wanted`; reports over all of them.

    Returns:
        Those that the storage listed and no longer has.

    Raises:
        NetworkError: the storage cannot be reached, refuses us, or sends damaged data every time.
        OSError: the folder cannot be written, or is full.
    """
    if not paths:
        report(len(wanted), len(wanted))
        return set()
    gone: set[str] = set()
    _tidy(root / RECORD)
    report(len(wanted) - len(paths), len(wanted))
    with (root / RECORD).open("ab", buffering=0) as record:
        came = each(lambda path: _fetch(storage, wanted[path], root / path), paths, THREADS)
        for done, (path, received) in enumerate(came, start=len(wanted) - len(paths) + 1):
            if received is None:
                gone.add(path)
            else:
                record.write(_line(path, received.size_bytes, received.etag))
            report(done, len(wanted))
    return gone


def _fetch(storage: Storage, listed: StoredObject, target: Path) -> StoredObject | None:
    try:
        received = storage.download(listed.key, target)
    except MissingObject:
        return None
    if received.etag == listed.etag and received.size_bytes != listed.size_bytes:
        target.unlink()
        sizes = f"{received.size_bytes} bytes, listed with {listed.size_bytes}"
        raise NetworkError(f"{storage.uri(listed.key)} came with {sizes}", hint="run the job again")
    return received


def _tidy(path: Path) -> None:
    """One line a file again, and none torn, to which the next would be glued."""
    record = _read_record(path)
    write_atomically(path, b"".join(_line(name, *found) for name, found in record.items()))


def _line(path: str, size_bytes: int, etag: str) -> bytes:
    return orjson.dumps([path, size_bytes, etag]) + b"\n"


def _read_record(path: Path) -> dict[str, tuple[int, str]]:
    """Later lines count; the last may be torn, by a job that was killed while it wrote."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    record = {}
    for line in lines:
        try:
            name, size_bytes, etag = orjson.loads(line)
        except (orjson.JSONDecodeError, ValueError):
            continue
        record[name] = (size_bytes, etag)
    return record


@contextmanager
def naming_write_errors(root: Path) -> Iterator[None]:
    """What a folder that cannot be written means to a user."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(error, root) from error
        names = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
        if error.errno in names and root.parent.is_dir():
            problem = f"a file of the data set cannot be one here: {error.filename}: {error.strerror}"
            raise DatasetError(problem, hint="rename it in the data set") from error
        problem = f"the data set cache {root} cannot be used: {error.strerror}"
        raise ResourceError(problem, hint="set DATASET_CACHE_DIR to a writable folder on a disk with locks") from error
