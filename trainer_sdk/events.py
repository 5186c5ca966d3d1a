"""Everything that is ever sent to the backend, with the backend's limits built in (contract, section 2).

A value that the backend would answer with 422 or 500 cannot be made: numbers are finite or null, the percentage is
0 to 100, texts fit their columns and hold no NUL byte, counts are integers, mappings are mappings.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from trainer_sdk.tasks import Task


def finite_or_none(value: Any) -> float | None:
    """NaN and infinity are 500 on the backend's database; a diverged loss must not silence the job."""
    if value is None:
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the largest float
        return None
    return number if math.isfinite(number) else None


def storable_text(text: str) -> str:
    """Neither NUL (500 on the backend) nor half a surrogate pair (from a file name; cannot be sent as UTF-8)."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _cut(length: int) -> BeforeValidator:
    return BeforeValidator(lambda text: text if text is None else storable_text(str(text))[:length])


Number = Annotated[float | None, BeforeValidator(finite_or_none)]
Percent = Annotated[float, BeforeValidator(lambda value: min(100.0, max(0.0, finite_or_none(value) or 0.0)))]
Text = Annotated[str, AfterValidator(storable_text)]
Numbers = dict[Text, Number]
Name50 = Annotated[str, _cut(50)]
Path500 = Annotated[str | None, _cut(500)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Cell = Annotated[int, Field(ge=0, lt=2**53)]
"""Of a confusion matrix, which is kept as JSON: pixels of a large data set are more than 2^31."""


class Event(BaseModel):
    """One call to the backend."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[str]
    route: ClassVar[str]
    """Path below the API base; ``{id}`` is the job's id."""

    def body(self, job_id: int | str) -> dict[str, Any]:
        """The JSON object of the call, without keys that have no value: null is refused in several places."""
        return {"job_id": job_id, **self.model_dump(mode="json", exclude_none=True)}


class Metrics(BaseModel):
    """The backend's metric row: three columns and a free mapping, which must never be null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Number = None
    accuracy: Number = None
    learning_rate: Number = None
    extra_metrics: Numbers = Field(default_factory=dict)


class Started(Event):
    """The job runs. Sent within a second of process start, before anything is known of the data."""

    kind: ClassVar[str] = "started"
    route: ClassVar[str] = "/training/jobs/{id}/callback/progress"

    status: Literal["running"] = "running"
    current_epoch: Count = 0
    total_epochs: Annotated[int, Field(gt=0, lt=2**31)]
    progress_percent: Percent = 0.0


class Progress(Event):
    """How far the training is; with `metrics` the backend appends a row, so they come once an epoch."""

    kind: ClassVar[str] = "progress"
    route: ClassVar[str] = "/training/jobs/{id}/callback/progress"

    status: Literal["running"] = "running"
    current_epoch: Count
    total_epochs: Annotated[int, Field(gt=0, lt=2**31)]
    progress_percent: Percent
    metrics: Metrics | None = None
    checkpoint_path: Path500 = None
    best_checkpoint_path: Path500 = None
    estimated_time_remaining: Number = None


class Validation(Event):
    """What one validation found; one row per epoch, a second call replaces it."""

    kind: ClassVar[str] = "validation"
    route: ClassVar[str] = "/validation/jobs/{id}/results"

    epoch: Count
    task_type: Task
    primary_metric_name: Name50
    primary_metric_value: Number
    overall_loss: Number = None
    metrics: Numbers
    per_class_metrics: dict[Text, Numbers] = Field(default_factory=dict)
    confusion_matrix: list[list[Cell]] | None = None
    class_names: list[Text] = Field(default_factory=list)
    visualization_urls: dict[Text, Text] = Field(default_factory=dict)


class LogLine(Event):
    """A line of the job's log page. The platform keeps about 2000 and drops the newest beyond: milestones only."""

    kind: ClassVar[str] = "log"
    route: ClassVar[str] = "/training/jobs/{id}/callback/logs"

    event_type: Annotated[str, AfterValidator(storable_text), Field(max_length=10)] = "training"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    message: Text
    data: dict[Text, Text | Number] = Field(default_factory=dict)


class Completed(Event):
    """The one good outcome."""

    kind: ClassVar[str] = "completed"
    route: ClassVar[str] = "/training/jobs/{id}/callback/completion"

    status: Literal["completed"] = "completed"
    exit_code: Literal[0] = 0  # if present the backend decides by it, whatever the status says
    total_epochs_completed: Count
    final_metrics: Metrics
    best_metrics: Metrics | None = None
    best_epoch: Count | None = None
    best_checkpoint_path: Path500 = None
    last_checkpoint_path: Path500 = None
    model_artifacts_path: Path500 = None
    total_duration_seconds: Number = None


class Failed(Event):
    """The one bad outcome, also for an interrupted job: the platform knows no other word."""

    kind: ClassVar[str] = "failed"
    route: ClassVar[str] = "/training/jobs/{id}/callback/completion"

    status: Literal["failed"] = "failed"
    exit_code: Annotated[int, Field(ge=1)]
    total_epochs_completed: Count = 0
    error_message: Text
    traceback: Text | None = None
    last_checkpoint_path: Path500 = None
