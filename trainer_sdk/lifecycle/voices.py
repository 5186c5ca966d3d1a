"""How each kind of job tells its beginning and its bad end."""

from __future__ import annotations

from typing import NamedTuple

from trainer_sdk.events import Event, Failed, Started
from trainer_sdk.jobspec import ExportSpec, JobSpec, PredictSpec, TrainSpec
from trainer_sdk.model_events import (
    FAILED_WITHOUT_TASK,
    ExportFailed,
    ExportStarted,
    InferenceFailed,
    InferenceStarted,
    TestRunFailed,
)
from trainer_sdk.request.kinds import Kind
from trainer_sdk.tasks import Task

HAS_LOG_PAGE: frozenset[Kind] = frozenset({"train"})


class Failure(NamedTuple):
    """What is known of a bad end."""

    exit_code: int
    message: str
    traceback: str
    epochs_completed: int
    task: Task | None


def started(spec: JobSpec) -> Event | None:
    """None: the backend has no call for it."""
    if isinstance(spec, TrainSpec):
        # The number of epochs may still be the recipe's to decide; the backend wants one above zero.
        return Started(total_epochs=spec.config.epochs or 1)
    if isinstance(spec, PredictSpec):
        return InferenceStarted()
    return ExportStarted() if isinstance(spec, ExportSpec) else None


def failed(kind: Kind, failure: Failure) -> Event:
    """Also for a job that was interrupted: the platform knows no other word."""
    if kind == "train":
        return Failed(
            exit_code=failure.exit_code,
            total_epochs_completed=failure.epochs_completed,
            error_message=failure.message,
            traceback=failure.traceback,
        )
    if kind == "predict":
        return InferenceFailed(error_message=failure.message, traceback=failure.traceback)
    if kind == "export":
        return ExportFailed(error_message=failure.message, traceback=failure.traceback)
    task = failure.task.value if failure.task else FAILED_WITHOUT_TASK
    return TestRunFailed(task_type=task, error_message=failure.message, traceback=failure.traceback)
