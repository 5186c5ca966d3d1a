"""The values a report is made of. Frozen, JSON-able; a number that does not exist is None, never NaN and never -1."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, get_args

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


ErrorKind = Literal["localisation", "classification", "both", "duplicate", "background", "missed"]
ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)


class ErrorSplit(Value):
    """Mistakes by kind at one score threshold, as `errors` tells them apart."""

    score_threshold: float
    foreground_iou: float
    background_iou: float
    counts: dict[ErrorKind, int]
    per_class: dict[str, dict[ErrorKind, int]]

    def shares(self) -> dict[ErrorKind, float | None]:
        """Of all mistakes; None where there are none."""
        total = sum(self.counts.values())
        return {kind: count / total if total else None for kind, count in self.counts.items()}


class ImageScore(Value):
    """How well one image went."""

    image_id: int
    file_name: str
    score: float = Field(description="0..1; of what, says `Ranking.measure`")
    objects: int = Field(description="objects or pixels with a class in the truth")
    mistakes: int = Field(description="objects missed or misnamed and predictions on nothing; or wrong pixels")
    reason: str = Field(description="the numbers behind it, for a person")


class Ranking(Value):
    """The images worth looking at, most extreme first; images with nothing to measure are in neither list."""

    measure: str
    worst: list[ImageScore] = []
    best: list[ImageScore] = []


class Evaluation(Value):
    """One split, measured. What a task does not have is None or empty.

    Detection and instance masks: everything but `pixels` and `keypoints`. Semantic: `pixels`, a confusion matrix of
    pixels, no threshold and no curves. Pose: as detection, with OKS in place of IoU, and `keypoints`.
    """

    task: Task
    images: int
    boxes: int | None = Field(default=None, description="ground truth objects without crowd regions")
    predictions: int | None = None
    pixels: int | None = Field(default=None, description="with a class in the truth")
    class_names: list[str]
    metrics: Metrics
    per_class: dict[str, Metrics]
    operating_point: OperatingPoint | None = None
    confusion_matrix: list[list[int]] = Field(
        default=[], description="row = truth, column = prediction; of objects, the last of each is the background"
    )
    confusion_iou: float = Field(default=0.5, description="IoU or OKS from which an object counts as found")
    pr_curves: PrCurves | None = None
    errors: ErrorSplit | None = None
    keypoints: dict[str, Metrics] = Field(default={}, description="name of the point -> its numbers")
    ranking: Ranking | None = None


class PrimaryMetric(Value):
    name: str
    value: Number


class ValidationPoint(Value):
    epoch: float
    metrics: Metrics


class Curves(Value):
    """`train` points are flat: epoch, iteration, lr, data_share, peak_rss_bytes, peak_gpu_bytes and every key
    that contains "loss"."""

    train: list[Metrics] = []
    validation: list[ValidationPoint] = []

    @property
    def data_share(self) -> float | None:
        """Of the training's time, spent waiting for data, 0..1: the mean of its epochs."""
        shares = [share for point in self.train if (share := point.get("data_share")) is not None]
        return sum(shares) / len(shares) if shares else None

    @property
    def peak_rss_bytes(self) -> int | None:
        """The most memory that the training process had of the machine."""
        return self._most("peak_rss_bytes")

    @property
    def peak_gpu_bytes(self) -> int | None:
        """The most that it took of one GPU."""
        return self._most("peak_gpu_bytes")

    def _most(self, name: str) -> int | None:
        return max((int(value) for point in self.train if (value := point.get(name)) is not None), default=None)


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


SplitName = Literal["test", "val", "train", "all"]
"""A training is measured on the first two; an evaluation on any."""


class TrainReport(Value):
    """report.json. `metrics`, `per_class`, ... repeat the split named by `evaluated_on`, where readers look first."""

    kind: Literal["train", "evaluate"] = "train"
    task: str
    job_id: str
    model_name: str
    dataset_id: str
    primary_metric: PrimaryMetric
    evaluated_on: SplitName
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
    objects: int | None = None
    mistakes: int | None = None
    truth_jpeg: str
    prediction_jpeg: str


def build_report(
    splits: dict[str, Evaluation], evaluated_on: SplitName, primary_metric: str, **about: Any
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
