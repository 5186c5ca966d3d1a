"""A job's folder. Whatever a step decides or finds is a file in it that a person can open."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import IO, Any, TypeVar

import orjson
from pydantic import BaseModel

from trainer_sdk.errors import ResourceError

Model = TypeVar("Model", bound=BaseModel)

LOCK, WORKER_LOCK = ".lock", ".worker.lock"
KEPT_ACROSS_RUNS = ("events.jsonl", "outbox.json", "log_lines.jsonl", LOCK, WORKER_LOCK)
"""What the backend was told survives a rerun of the same job; everything else is made again."""
KEPT_TO_GO_ON = ("job.json", "work")
"""What the same request also finds again: itself, and its checkpoints."""
RESERVE, RESERVE_BYTES = ".reserve", 2**18
"""Room for the last words, which have to be written on a full disk too."""
WORKER_LEAVES_S = 30.0
"""A worker whose parent was killed notices after its current iteration."""


class Workspace:
    """``$WORKSPACE_DIR/<job id>/``; the names inside are fixed, other tools rely on them."""

    def __init__(self, root: Path, job_id: str) -> None:
        self.folder = root / job_id
        self.out = self.folder / "out"
        self.dataset = self.folder / "dataset"
        self.work = self.folder / "work"
        self.folder.mkdir(parents=True, exist_ok=True)

    def claim(self) -> None:
        """Takes the job for this process, until it ends however it ends.

        Raises:
            ResourceError: another process, or a worker it left behind, has the job.
        """
        self._lock = self._taken(LOCK, patience_s=0.0)
        self._taken(WORKER_LOCK, patience_s=WORKER_LEAVES_S).close()  # only had to be free: the worker to come takes it

    def _taken(self, name: str, *, patience_s: float) -> IO[bytes]:
        lock = take_lock(self.folder / name, patience_s)
        if lock is None:
            hint = "wait for it, or use another JOB_ID"
            raise ResourceError(f"another process works on this job in {self.folder}", hint=hint)
        return lock

    def clear(self, *, resumes: bool = False) -> None:
        """Removes what an earlier run of the same job left, so that nothing of it can be taken for this run's.

        Args:
            resumes: it is the same request, so the work goes on with what `KEPT_TO_GO_ON` names.
        """
        kept = KEPT_ACROSS_RUNS + (KEPT_TO_GO_ON if resumes else ())
        for entry in self.folder.iterdir():
            if entry.name in kept:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        for folder in (self.out, self.dataset, self.work):
            folder.mkdir(exist_ok=True)
        with self.path(RESERVE).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)

    def use_reserve(self) -> None:
        """Gives room for the last words of a job whose disk may be full."""
        self.path(RESERVE).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        return self.folder / name

    def save(self, name: str, model: Model) -> Model:
        """Writes a model as JSON and hands it back, so that a step reads `plan = space.save(..., make_plan(...))`."""
        write_json(self.folder / name, model.model_dump(mode="json"))
        return model


def take_lock(path: Path, patience_s: float = 0.0) -> IO[bytes] | None:
    """An exclusive lock that lasts as long as the file stays open; None when somebody else keeps it."""
    file = path.open("ab")
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                return None
            time.sleep(0.2)
        else:
            return file


def write_json(path: Path, value: Any) -> None:
    """Indented, with sorted keys: made to be read and compared."""
    write_atomically(
        path, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    )


def fingerprint(path: Path) -> dict[str, Any]:
    """``{"sha256", "size_bytes"}`` of a file."""
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size_bytes": path.stat().st_size}


def write_atomically(path: Path, data: bytes) -> None:
    """The file is there whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
