"""What a job needs of its surroundings, looked at before the expensive part: all that lacks, in one error.

Checks return what is wrong instead of raising it, so that a user hears of everything at once (`raise_together`).
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer_sdk.errors import JobError, NetworkError, ResourceError
from trainer_sdk.failures import os_errors
from trainer_sdk.failures.evidence import Precondition
from trainer_sdk.settings import StorageSettings
from trainer_sdk.storage.local import LocalStorage
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import MissingObject

PROBE = ".probe-"
"""Begins the name of what is written only to be removed again."""


def raise_together(problems: Sequence[JobError]) -> None:
    """Of several, one error that lists them.

    Raises:
        NetworkError: all are of the network.
        ResourceError: the machine lacks something, whatever else.
        JobError: the only one there is, as it is.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise problems[0]
    kind = NetworkError if all(isinstance(problem, NetworkError) for problem in problems) else ResourceError
    listed = [f"{one.message} - {one.hint}" for one in problems]
    error = kind.of_problems("the job cannot begin", listed, hint="docs/errors.md says what is looked at, and why")
    error.retryable = all(problem.retryable for problem in problems)
    error.facts["lacking"] = [lack for problem in problems for lack in problem.facts.get("lacking", [])]
    raise error


def lack_of(what: str, needed_bytes: int, found_bytes: int, *, why: str, hint: str) -> ResourceError | None:
    """An error when less is found than needed.

    Args:
        what: "disk below /workspace".
        why: what the number is made of.
    """
    if found_bytes >= needed_bytes:
        return None
    error = ResourceError(
        f"too little {what}: needed are {in_words(needed_bytes)} ({why}), free are {in_words(found_bytes)}", hint=hint
    )
    error.facts["lacking"] = [Precondition(what=what, needed_bytes=needed_bytes, found_bytes=found_bytes)]
    return error


def lack_of_disk(folder: Path, needs: Mapping[str, int], *, hint: str) -> ResourceError | None:
    """Whether the file system of a folder has room.

    Args:
        needs: bytes, by what they are for.
    """
    why = ", ".join(f"{name} {in_words(size)}" for name, size in needs.items() if size)
    free_bytes = shutil.disk_usage(_existing(folder)).free
    return lack_of(f"disk below {folder}", sum(needs.values()), free_bytes, why=why, hint=hint)


def unwritable(folder: Path, variable: str) -> ResourceError | None:
    """Makes the folder and writes a file there that it removes again."""
    hint = f"set {variable} to a folder that this user may write"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=PROBE) as probe:
            probe.write(b"probe")
            probe.flush()
    except OSError as error:
        known = os_errors.of_the_machine(error)
        return ResourceError(
            f"{folder} cannot be written: {error.strerror}", hint=hint if known is None else known.hint
        )
    return None


def unwritable_storage(settings: StorageSettings, prefix: str, scratch: Path) -> JobError | None:
    """Puts a probe object below the prefix of a storage, and removes it again.

    Args:
        prefix: ends with '/'.
        scratch: a folder for the probe.
    """
    storage, key = open_storage(settings), f"{prefix}{PROBE}{uuid.uuid4().hex}"
    try:
        with tempfile.NamedTemporaryFile(dir=scratch, prefix=PROBE) as probe:
            probe.write(b"probe")
            probe.flush()
            storage.upload(Path(probe.name), key)
        storage.delete(key)
    except NetworkError as error:
        return error
    except OSError as error:
        return _refused(error, f"{storage.uri(prefix)} cannot be written")
    return None


def unreadable_storage(settings: StorageSettings, bucket: str | None, prefix: str) -> JobError | None:
    """Asks a storage for an object that is not there: whoever may read is told so."""
    storage = open_storage(settings, bucket)
    if isinstance(storage, LocalStorage):  # a folder is there or not, which the fetching says better
        return None
    try:
        storage.read(f"{prefix}{PROBE}{uuid.uuid4().hex}")
    except MissingObject:
        return None
    except NetworkError as error:
        return error
    return None


def _refused(error: OSError, what: str) -> JobError:
    known = os_errors.named(error)
    hint = known.hint if known else "check the folder that the endpoint names"
    return ResourceError(f"{what}: {error.strerror or error}", hint=hint)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def in_words(size_bytes: int) -> str:
    """``1.23 GB``, or MB below one."""
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 10**9 else f"{size_bytes / 1e6:.0f} MB"
