"""Every way a job can end other than well.

    JobError
    ├── ConfigError        the request is wrong: specification, recipe, hyper-parameter
    ├── DatasetError       the data are missing, corrupt or unusable
    ├── CheckpointError    the weights are missing, wrong or for other classes
    ├── ResourceError      memory, disk, device, driver or shared memory is missing
    │   ├── OutOfMemory    memory ran out while training: fewer images at a time may fit
    │   └── TimeLimitReached   MAX_DURATION_S is over
    ├── NetworkError       the storage or the backend cannot be reached or refuses us
    ├── FrameworkError     mm*, an exporter, or our configuration of it broke
    │   └── ExportError    an exported model is not the model that was trained
    ├── DivergedError      the loss stayed not finite
    ├── Interrupted        SIGTERM, after a checkpoint was saved
    └── JobCancelled       the backend says cancelled or stopped

``code`` is the platform's word for it, ``exit_code`` lets a Kubernetes ``podFailurePolicy`` retry 4, 5 and 143
and never 3. A message says what, which and what was found; the hint says what to do. docs/errors.md is made of this
file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from trainer_sdk.texts.printable import printable

EXIT_UNDELIVERED = 2
"""The work is done but the backend does not know: a rerun of the same JOB_ID delivers it and trains nothing."""

Actor = Literal["whoever wrote the request", "whoever runs the platform", "the developers", "nobody"]


MOST_PROBLEMS = 100
LONGEST_PROBLEM = 3000
"""Characters. A value that fills CONFIG is not to fill every log too."""


class JobError(Exception):
    """A failure that nobody foresaw: a bug of ours."""

    code: ClassVar[str] = "UnknownError"
    exit_code: ClassVar[int] = 1
    acts: ClassVar[Actor] = "the developers"
    remedy: ClassVar[str] = "Report it, with `outcome.json` and `work/worker.log`."
    retryable: bool = False
    """Whether the same request may end well later, or on another machine, though nobody changes anything."""
    worker_traceback: str | None = None
    """Of the process in which it happened, where that is not this one."""

    def __init__(self, message: str, *, hint: str = "", retryable: bool | None = None) -> None:
        message, hint = printable(message, keep="\n\t"), printable(hint, keep="\n\t")
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts: dict[str, Any] = {}
        """What only the place knows where it happened: fields of `trainer_sdk.failures.evidence.Evidence`."""
        if retryable is not None:
            self.retryable = retryable

    @classmethod
    def of_problems(cls, subject: str, problems: Sequence[str], *, hint: str = "") -> JobError:
        """One error that lists every problem, so that a user corrects them in one go.

        Each is a line, whatever it quotes, and none hides the others by its length.
        """
        lines = [_in_one_line(problem) for problem in problems[:MOST_PROBLEMS]]
        if len(problems) == 1:
            return cls(f"{subject}: {lines[0]}", hint=hint)
        if len(problems) > len(lines):
            lines.append(f"and {len(problems) - len(lines)} more")
        listed = "\n".join(f"  - {line}" for line in lines)
        return cls(f"{subject}: {len(problems)} problems\n{listed}", hint=hint)

    @property
    def wire_text(self) -> str:
        """What the platform shows: ``[Type] message - hint``."""
        return f"[{self.code}] {self.message}" + (f" - {self.hint}" if self.hint else "")


class ConfigError(JobError):
    """The request cannot be honoured as it stands."""

    code = "ConfigError"
    exit_code = 3
    acts = "whoever wrote the request"
    remedy = "Correct what the message lists: it lists everything at once. docs/environment.md knows every value."


class DatasetError(JobError):
    """The data set cannot be trained on."""

    code = "DatasetError"
    exit_code = 3
    acts = "whoever wrote the request"
    remedy = "Correct the data set: `findings.json` and `out/data.html` say where, docs/findings.md what a code means."


class CheckpointError(JobError):
    """The weights asked for cannot be had or do not fit."""

    code = "CheckpointError"
    exit_code = 3
    acts = "whoever wrote the request"
    remedy = "Name other weights with CHECKPOINT_PATH, put them where the hint says, or train without any."


class ResourceError(JobError):
    """The machine lacks something: GPU, memory, disk, shared memory."""

    code = "ResourceError"
    exit_code = 4
    acts: ClassVar[Actor] = "whoever runs the platform"
    remedy = "Give the job what the message says it lacks; on another machine the same request may do as it is."
    retryable = True


class OutOfMemory(ResourceError):
    """Memory ran out; with less at a time it may not."""

    remedy = "Raise the memory limit, or lower imgsz or workers; fewer images at a time were tried already."
    retryable = False


class TimeLimitReached(ResourceError):
    """The time that the job was given is over; its checkpoint is kept."""

    exit_code = 3  # not the machine's turn: started again as it is, it would take the same time once more
    acts = "whoever wrote the request"
    remedy = "Raise MAX_DURATION_S and start the same JOB_ID again: it goes on from the checkpoint. Or ask for less."
    retryable = False


class NetworkError(JobError):
    """Storage or backend cannot be reached, or refuses our credentials."""

    code = "NetworkError"
    exit_code = 5
    retryable = True
    acts = "whoever runs the platform"
    remedy = "Nothing, if it passes: the next start goes on. Keys that are refused have to be corrected."


class FrameworkError(JobError):
    """The OpenMMLab stack broke, or we configured it wrongly."""

    code = "FrameworkError"
    remedy = "Report it, with `outcome.json` and `work/worker.log`. A crash in compiled code may be the machine's."


class ExportError(FrameworkError):
    """An exported model does not compute what the trained one computes."""

    remedy = "Export to another format, or report it."


class DivergedError(JobError):
    """The loss was not finite for too long."""

    code = "ValidationError"
    exit_code = 3
    acts = "whoever wrote the request"
    remedy = "Lower lr0, warm up for longer, clip gradients (`grad_clip`), or leave amp out."


class Interrupted(JobError):
    """The job was told to stop and did so in order."""

    code = "Interrupted"
    exit_code = 143
    retryable = True
    acts = "nobody"
    remedy = "The next start of the same JOB_ID goes on from the checkpoint that was saved."


class JobCancelled(JobError):
    """The backend no longer wants this job."""

    code = "Cancelled"
    exit_code = 0
    acts = "nobody"
    remedy = "What was reached until then is in the job folder and in the storage."


def _in_one_line(problem: str) -> str:
    if len(problem) > LONGEST_PROBLEM:
        half = LONGEST_PROBLEM // 2
        problem = f"{problem[:half]} ... {problem[-half:]}"
    return printable(problem)


ERROR_TYPES: dict[str, type[JobError]] = {
    kind.__name__: kind
    for kind in (
        ConfigError, DatasetError, CheckpointError, ResourceError, OutOfMemory, TimeLimitReached, NetworkError,
        FrameworkError, ExportError, DivergedError, Interrupted, JobCancelled,
    )
}  # fmt: skip
"""By class name: how an error crosses from the worker process to the parent."""


TOOL_ERRORS = (JobError, OSError)
"""What ends a command line with a word instead of a traceback."""


def as_job_error(error: JobError | OSError) -> JobError:
    """The error itself, or what the operating system says as a lack of the machine's."""
    return error if isinstance(error, JobError) else ResourceError(str(error))


def tell(error: JobError | OSError) -> int:
    """Says on stderr why a command line ends, and returns its exit code."""
    named = as_job_error(error)
    sys.stderr.write(f"{named.wire_text}\n")
    return named.exit_code


def disk_full(error: OSError, where: Path) -> ResourceError:
    """ENOSPC and EDQUOT, said in words."""
    return ResourceError(
        f"the disk is full: {error.strerror} while writing below {where}",
        hint="free space, or set WORKSPACE_DIR and DATASET_CACHE_DIR to a larger volume",
    )
