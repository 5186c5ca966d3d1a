"""How a job ended, as a record and as an error; and how an earlier run of it did."""

from __future__ import annotations

import logging
import traceback as tracebacks
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer_sdk.errors import Interrupted, JobCancelled, JobError, OutOfMemory, ResourceError, disk_full
from trainer_sdk.events import Text
from trainer_sdk.failures import os_errors
from trainer_sdk.failures.evidence import Evidence
from trainer_sdk.jobspec import JobSpec

log = logging.getLogger("trainer")

Status = Literal["completed", "failed", "interrupted", "cancelled"]


class Outcome(BaseModel):
    """How the job ended: ``outcome.json``."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    status: Status
    exit_code: int
    phase: str
    code: str | None = None
    message: Text | None = None
    hint: Text | None = None
    retryable: bool = False
    traceback: Text | None = None
    evidence: Evidence | None = None
    """Of a job that did not end well."""
    timings_s: dict[str, float]
    undelivered_events: int = 0
    refused_events: int = 0
    """The backend took them for wrong (4xx), or they were left out when it took none in time; the log says which."""


class End(NamedTuple):
    """What an exception means for the job that it ended."""

    failure: JobError
    status: Status
    traceback: str
    """Of the process in which it happened."""


def end_by(error: BaseException, workspace_dir: Path) -> End:
    """Logs it too: in words, and where it is a bug with the place."""
    failure, trace = as_job_error(error, workspace_dir), "".join(tracebacks.format_exception(error))
    if isinstance(failure, JobCancelled):
        log.info("cancelled: %s", failure.message)
        return End(failure, "cancelled", trace)
    log.error("%s", failure.wire_text)
    if failure.exit_code == 1:
        log.error("%s", trace)
    status: Status = "interrupted" if isinstance(failure, Interrupted) else "failed"
    return End(failure, status, worker_traceback_of(error) or trace)


def completed_before(path: Path) -> bool:
    """Whether an earlier run of the job did its work; a damaged record is as good as none."""
    if not path.exists():
        return False
    try:
        return Outcome.model_validate_json(path.read_bytes()).status == "completed"
    except ValidationError:
        return False


def same_request(path: Path, spec: JobSpec) -> bool:
    """Whether the earlier run was asked for the same, as far as it is written down."""
    try:
        return type(spec).model_validate_json(path.read_bytes()).model_dump() == spec.model_dump()
    except (FileNotFoundError, ValidationError):
        return False


def unusable_folder(error: OSError, folder: Path) -> ResourceError:
    """WORKSPACE_DIR cannot be written."""
    if error.errno in os_errors.NO_SPACE:
        return disk_full(error, folder)
    return ResourceError(
        f"the work folder {folder} cannot be used: {error.strerror}", hint="set WORKSPACE_DIR to a writable folder"
    )


def as_job_error(error: BaseException, workspace_dir: Path) -> JobError:
    """What a user is told. Only what we can name gets a name."""
    if isinstance(error, JobError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("stopped from the keyboard")
    if isinstance(error, OSError) and (known := os_errors.named(error, workspace_dir)):
        return known
    if isinstance(error, MemoryError):
        return OutOfMemory("out of memory in the parent process", hint="give the job more memory")
    return JobError(f"{type(error).__name__}: {error}", hint="this is a bug: please report it with the traceback")


def worker_traceback_of(error: BaseException | None) -> str | None:
    """Of the process in which it happened, where the error, or what it was raised from, came from one."""
    while error is not None:
        if isinstance(error, JobError) and error.worker_traceback:
            return error.worker_traceback
        error = error.__cause__
    return None
