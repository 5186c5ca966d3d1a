"""The values a report is made of. Frozen, JSON-able; a number that does not exist is None, never NaN and never -1."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from trainer_sdk.tasks import Task


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | int | None, BeforeValidator(_finite_or_none)]  # int too: a count stays whole in the JSON
Metrics = dict[str, Number]


class Value(BaseModel):
    """Base of everything here: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OperatingPoint(Value):
    """The score threshold that precision, recall and the confusion matrix are stated at (IoU 0.5)."""

    score_threshold: float
    chosen_by: Literal["best_mean_f1", "caller"]
    precision: float | None = Field(description="mean over the classes that have ground truth; so are recall and f1")
    recall: float | None
    f1: float | None


class PrCurve(Value):
    """One class at IoU 0.5; entry i belongs to `PrCurves.recall[i]`."""

    precision: list[float] = Field(description="interpolated (best precision at this recall or beyond); 0 if unreached")
    score: list[float | None] = Field(description="score threshold that reaches this recall; None if unreached")


class PrCurves(Value):
    iou: float = 0.5
    recall: list[float] = Field(description="the 101 recall points of COCO: 0, 0.01, ..., 1")
    classes: dict[str, PrCurve] = Field(description="only classes with ground truth")


class Evaluation(Value):
    """One split, measured. Row = truth, column = prediction in `confusion_matrix`; its last one is the background."""

    task: Task
    images: int
    boxes: int = Field(description="ground truth objects without crowd regions")
    predictions: int
    class_names: list[str]
    metrics: Metrics
    per_class: dict[str, Metrics]
    operating_point: OperatingPoint
    confusion_matrix: list[list[int]]
    confusion_iou: float = 0.5
    pr_curves: PrCurves


class PrimaryMetric(Value):
    name: str
    value: Number


class ValidationPoint(Value):
    epoch: float
    metrics: Metrics


class Curves(Value):
    """`train` points are flat: epoch, iteration, lr and every key that contains "loss"."""

    train: list[Metrics] = []
    validation: list[ValidationPoint] = []


class Finding(BaseModel):
    """One remark of the data inspection; keys this page does not know are kept in report.json."""

    model_config = ConfigDict(frozen=True, extra="allow")

    code: str
    severity: str
    title: str
    count: int | None = None
    examples: list[JsonValue] = []
    hint: str | None = None


class PlanEntry(Value):
    name: str
    value: JsonValue
    origin: str
    reason: str = ""


class ReportFile(Value):
    name: str
    sha256: str
    size_bytes: int | None = None


class TrainReport(Value):
    """report.json. `metrics`, `per_class`, ... repeat the split named by `evaluated_on`, where readers look first."""

    task: str
    job_id: str
    model_name: str
    dataset_id: str
    primary_metric: PrimaryMetric
    evaluated_on: Literal["test", "val"]
    metrics: Metrics
    per_class: dict[str, Metrics] = {}
    confusion_matrix: list[list[int]] = []
    class_names: list[str] = []
    splits: dict[str, Evaluation] = {}
    curves: Curves = Curves()
    best_epoch: float | None = None
    findings: list[Finding] = []
    plan: list[PlanEntry] = []
    versions: dict[str, str | None] = {}
    files: list[ReportFile] = []
    duration_s: Number = None
    images: dict[str, int] = {}
    notes: list[str] = []


class Sample(Value):
    """One image twice: what is there, and what the model sees. The pictures are base64 JPEG."""

    file_name: str
    reason: str = Field(description="why this image was chosen")
    objects: int
    mistakes: int
    truth_jpeg: str
    prediction_jpeg: str


def build_report(
    splits: dict[str, Evaluation], evaluated_on: Literal["test", "val"], primary_metric: str, **about: Any
) -> TrainReport:
    """A detection or segmentation report headed by the numbers of one split.

    Args:
        primary_metric: a key of `Evaluation.metrics`, for example "mAP@0.5:0.95".
        about: the other fields of TrainReport (job_id, model_name, dataset_id, curves, ...).
    """
    headline = splits[evaluated_on]
    return TrainReport(
        task=headline.task,
        primary_metric=PrimaryMetric(name=primary_metric, value=headline.metrics[primary_metric]),
        evaluated_on=evaluated_on,
        metrics=headline.metrics,
        per_class=headline.per_class,
        confusion_matrix=headline.confusion_matrix,
        class_names=headline.class_names,
        splits=splits,
        **about,
    )
