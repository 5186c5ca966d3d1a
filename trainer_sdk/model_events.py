"""What predict, export and evaluate jobs tell the backend (contract 2.5-2.7), with its limits built in.

None of the three has a log page: their lines, sent to the training's, would land on another job of the same number.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from trainer_sdk.events import Count, Event, Name50, Numbers, Path500, Text, finite_or_none, storable_text

ROWS_PER_CALL = 500
WHOLE = 2**53
"""From here on JSON's readers have no whole numbers."""
FAILED_WITHOUT_TASK = "unknown"
"""A test run's result needs a task also where the request could not be read."""


def _plain(value: Any) -> Any:
    """JSON that PostgreSQL takes: no NaN, no NUL."""
    if isinstance(value, dict):
        return {storable_text(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= WHOLE):
        return finite_or_none(value)
    return storable_text(value) if isinstance(value, str) else value


PlainObject = Annotated[dict[str, Any], BeforeValidator(_plain)]
Finite = Annotated[float, BeforeValidator(lambda value: finite_or_none(value) or 0.0)]
Milliseconds = Annotated[Finite, Field(ge=0)]


class Prediction(BaseModel):
    """One object in one image; lengths in pixels of the original image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_id: Count
    class_name: Text
    confidence: Finite
    bbox: tuple[Finite, Finite, Finite, Finite]
    """x1, y1, x2, y2: unlike DICE's."""
    polygons: list[list[tuple[Finite, Finite]]] | None = None
    """Outlines of its mask. The backend keeps them, and shows no field for masks or keypoints yet."""
    keypoints: list[tuple[Finite, Finite, Finite]] | None = None
    """x, y and score of each point."""


class InferenceRow(BaseModel):
    """One image. A row without a time, or with half a box, is 500."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_path: Text
    image_name: Text
    """The basename: the UI finds the original picture by it."""
    predictions: list[Prediction] = []
    inference_time_ms: Milliseconds


class InferenceStarted(Event):
    """The predict job runs."""

    kind: ClassVar[str] = "started"
    route: ClassVar[str] = "/test_inference/inference/jobs/{id}/callback/started"


class InferenceCompleted(Event):
    """The good end; without rows, since a repeated completion would add them again."""

    kind: ClassVar[str] = "completed"
    route: ClassVar[str] = "/test_inference/inference/jobs/{id}/callback/completion"

    status: Literal["completed"] = "completed"
    total_images: Count
    total_inference_time_ms: Milliseconds
    avg_inference_time_ms: Milliseconds


class InferenceRows(InferenceCompleted):
    """Some of the results. The backend adds them to what it has, and knows no status between running and completed."""

    kind: ClassVar[str] = "rows"

    results: list[InferenceRow]


def rows_in_pieces(rows: Iterable[InferenceRow], done: InferenceCompleted) -> Iterator[InferenceRows]:
    """All results of a job, a few hundred a call; to be told before `done`."""
    totals = done.model_dump(exclude={"status"})
    remaining = iter(rows)
    while piece := list(itertools.islice(remaining, ROWS_PER_CALL)):
        yield InferenceRows(**totals, results=piece)


class InferenceFailed(Event):
    """The bad end."""

    kind: ClassVar[str] = "failed"
    route: ClassVar[str] = "/test_inference/inference/jobs/{id}/callback/completion"

    status: Literal["failed"] = "failed"
    error_message: Text
    traceback: Text | None = None


class ExportStarted(Event):
    """The export job runs."""

    kind: ClassVar[str] = "started"
    route: ClassVar[str] = "/export/jobs/{id}/callback/started"


class ExportCompleted(Event):
    """The good end. Any other word than ``completed`` would leave the job running with an error text."""

    kind: ClassVar[str] = "completed"
    route: ClassVar[str] = "/export/jobs/{id}/callback/completion"

    status: Literal["completed"] = "completed"
    output_s3_uri: Path500
    file_size_bytes: Annotated[int, Field(ge=0)]
    """A number: a text is 500."""
    metadata: PlainObject = Field(default_factory=dict)


class ExportFailed(Event):
    """The bad end."""

    kind: ClassVar[str] = "failed"
    route: ClassVar[str] = "/export/jobs/{id}/callback/completion"

    status: Literal["failed"] = "failed"
    error_message: Text
    traceback: Text | None = None


class TestRunCompleted(Event):
    """The good end of an evaluation. There is no call for its start."""

    __test__ = False  # pytest collects by name
    kind: ClassVar[str] = "completed"
    route: ClassVar[str] = "/test_inference/test/{id}/results"

    status: Literal["completed"] = "completed"
    task_type: Name50
    metrics: Numbers
    """With `mAP50-95` or `mAP50`, the only primary ones that the backend knows."""
    per_class_metrics: dict[Text, Numbers] = Field(default_factory=dict)
    class_names: list[Text] = Field(default_factory=list)
    num_images: Count
    visualization_urls: dict[Text, Text] = Field(default_factory=dict)
    predictions_json_uri: Path500 = None
    config: PlainObject = Field(default_factory=dict)


class TestRunFailed(Event):
    """The bad end of an evaluation."""

    __test__ = False
    kind: ClassVar[str] = "failed"
    route: ClassVar[str] = "/test_inference/test/{id}/results"

    status: Literal["failed"] = "failed"
    task_type: Name50 = FAILED_WITHOUT_TASK
    error_message: Text
    traceback: Text | None = None
