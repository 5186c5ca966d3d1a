"""From ground truth and predictions on disk to an Evaluation: the numbers a report, the UI and an export gate read."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import orjson

from mmtrain.reports import confusion
from mmtrain.reports.coco_metrics import (
    Annotation,
    CocoTables,
    Geometry,
    Truth,
    class_summary,
    coco_tables,
    pr_curves,
    read_truth,
    summary,
)
from mmtrain.reports.errors import error_split
from mmtrain.reports.matching import ImageMatch, match_images
from mmtrain.reports.models import Evaluation, Metrics
from mmtrain.reports.ranking import best_and_worst, image_scores
from trainer_sdk.tasks import Task

_GEOMETRIES: dict[Task, tuple[Geometry, ...]] = {
    Task.DETECTION: ("bbox",),
    Task.INSTANCE: ("segm", "bbox"),  # the first one chooses the threshold and fills the confusion matrix
}
_SUFFIX: dict[Geometry, str] = {"bbox": "(B)", "segm": "(M)"}  # what the platform's UI calls boxes and masks


class _Measured(NamedTuple):
    """One geometry, compared in both ways: COCO's tables and our own one-to-one matches."""

    tables: CocoTables
    matches: list[ImageMatch]


def evaluate(annotations: Path, predictions: Path, *, task: Task, score_threshold: float | None = None) -> Evaluation:
    """Measure the predictions on one split.

    Args:
        annotations: COCO ground truth; category ids 0..K-1, annotation ids from 1.
        predictions: JSON list of {image_id, category_id, bbox (xywh, px), score, segmentation? (RLE)}, perhaps empty.
        score_threshold: where precision, recall and the confusion matrix are read; None takes the best mean F1 of this
            very split, which flatters a test split a little: pass the one chosen on val.

    Returns:
        COCO metrics of boxes under plain keys ("mAP@0.5:0.95", "mAP@0.5", "precision", ...) and under the UI's
        "mAP50(B)", "mAP50-95(B)"; those of masks end in "(M)". All fractions 0..1, None where nothing can be said.
    """
    truth = read_truth(annotations)
    found: list[Annotation] = orjson.loads(predictions.read_bytes())
    measured = {g: _Measured(coco_tables(truth, found, g), match_images(truth, found, g)) for g in _GEOMETRIES[task]}
    leading = measured[_GEOMETRIES[task][0]]
    classes = len(truth.class_names)
    chosen = confusion.best_threshold(leading.matches, classes) if score_threshold is None else score_threshold
    counts = {g: confusion.counts_at(m.matches, classes, chosen) for g, m in measured.items()}
    return Evaluation(
        task=task,
        images=len(truth.images),
        boxes=sum(not annotation.get("iscrowd") for annotation in truth.annotations),
        predictions=len(found),
        class_names=truth.class_names,
        metrics=_metrics(measured, counts, chosen),
        per_class=_per_class(truth, measured, counts),
        errors=error_split(leading.matches, truth.class_names, chosen),
        ranking=best_and_worst("F1", image_scores(truth, leading.matches, chosen)),
        operating_point=confusion.operating_point(counts[_GEOMETRIES[task][0]], chosen, score_threshold is None),
        confusion_matrix=confusion.confusion_matrix(leading.matches, classes, chosen),
        pr_curves=pr_curves(leading.tables, truth.class_names),
    )


def _metrics(
    measured: dict[Geometry, _Measured], counts: dict[Geometry, confusion.ClassCounts], threshold: float
) -> Metrics:
    metrics: Metrics = {}
    for geometry, (tables, _) in measured.items():
        point = confusion.operating_point(counts[geometry], threshold, chosen=True)
        numbers = summary(tables) | {"precision": point.precision, "recall": point.recall, "f1": point.f1}
        metrics |= numbers if geometry == "bbox" else {f"{key}(M)": value for key, value in numbers.items()}
        metrics |= _ui_metrics(numbers, _SUFFIX[geometry])
    return metrics


def _ui_metrics(numbers: Metrics, suffix: str) -> Metrics:
    """The spellings the platform's UI draws for boxes and for masks."""
    names = {"mAP@0.5": "mAP50", "mAP@0.5:0.95": "mAP50-95", "precision": "precision", "recall": "recall"}
    return {f"{ui_name}{suffix}": numbers[key] for key, ui_name in names.items()}


def _per_class(
    truth: Truth, measured: dict[Geometry, _Measured], counts: dict[Geometry, confusion.ClassCounts]
) -> dict[str, Metrics]:
    best = {g: confusion.best_class_thresholds(m.matches, len(truth.class_names)) for g, m in measured.items()}
    return {name: _one_class(k, measured, counts, best) for k, name in enumerate(truth.class_names)}


def _one_class(
    class_id: int,
    measured: dict[Geometry, _Measured],
    counts: dict[Geometry, confusion.ClassCounts],
    best: dict[Geometry, list[Metrics]],
) -> Metrics:
    """Boxes under plain keys; with masks also every key with (B) and (M)."""
    row: Metrics = {}
    for geometry, (tables, _) in measured.items():
        rates = class_summary(tables, class_id) | confusion.class_rates(counts[geometry], class_id)
        rates |= best[geometry][class_id]
        if len(measured) > 1:
            row |= {f"{key}{_SUFFIX[geometry]}": value for key, value in rates.items()}
        if geometry == "bbox":
            row |= rates
    leading = next(iter(counts.values()))
    return row | {"support": int(leading.support[class_id]), "predictions": int(leading.predictions[class_id])}
