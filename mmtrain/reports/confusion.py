"""Precision, recall and F1 over the score threshold, the best threshold, and the confusion matrix."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mmtrain.reports.coco_metrics import Floats
from mmtrain.reports.matching import ImageMatch, Ints, confused_pairs
from mmtrain.reports.models import Metrics, OperatingPoint

_THRESHOLDS = np.arange(1001, dtype=np.float64) / 1000
_NOTHING_FOUND_THRESHOLD = 0.5  # any would do: without predictions all thresholds are equally bad


class ClassCounts(NamedTuple):
    """Of each class at one score threshold and IoU 0.5, shapes (K,)."""

    support: Ints
    predictions: Ints
    correct: Ints


def counts_at(matches: list[ImageMatch], class_count: int, score_threshold: float) -> ClassCounts:
    """Objects, predictions and correct predictions of each class at one threshold."""
    support, predictions, correct = _sweep(matches, class_count, np.array([score_threshold], dtype=np.float64))
    return ClassCounts(support, predictions[:, 0], correct[:, 0])


def best_threshold(matches: list[ImageMatch], class_count: int) -> float:
    """The score, to 0.001, at which the mean F1 of the classes with ground truth is highest.

    Of equally good thresholds the middle one: it is the farthest from doing worse.
    """
    support, predictions, correct = _sweep(matches, class_count, _THRESHOLDS)
    present = support > 0
    if not present.any() or not correct.any():
        return _NOTHING_FOUND_THRESHOLD
    mean_f1 = _f1(support[:, None], predictions, correct)[present].mean(axis=0)  # (1001,)
    return _middle_of_best(mean_f1)


def best_class_thresholds(matches: list[ImageMatch], class_count: int) -> list[Metrics]:
    """Of each class the threshold with its own best F1, and that F1; None where no object of it was found."""
    support, predictions, correct = _sweep(matches, class_count, _THRESHOLDS)
    f1 = _f1(support[:, None], predictions, correct)  # (K, 1001)
    return [
        {"best_threshold": _middle_of_best(row), "best_f1": float(row.max())}
        if row.any()
        else {"best_threshold": None, "best_f1": None}
        for row in f1
    ]


def operating_point(counts: ClassCounts, score_threshold: float, chosen: bool) -> OperatingPoint:
    """The means over the classes with ground truth; a class never predicted counts with precision 0."""
    present = counts.support > 0
    precision = _ratio(counts.correct, counts.predictions)[present]
    recall = _ratio(counts.correct, counts.support)[present]
    f1 = _f1(*counts)[present]
    return OperatingPoint(
        score_threshold=score_threshold,
        chosen_by="best_mean_f1" if chosen else "caller",
        precision=float(precision.mean()) if present.any() else None,
        recall=float(recall.mean()) if present.any() else None,
        f1=float(f1.mean()) if present.any() else None,
    )


def class_rates(counts: ClassCounts, class_id: int) -> Metrics:
    """Precision, recall and F1 of one class; None where a class has no ground truth to compare with."""
    support, predictions, correct = (int(column[class_id]) for column in counts)
    exists = support > 0
    return {
        "precision": correct / max(predictions, 1) if exists else None,
        "recall": correct / support if exists else None,
        "f1": 2 * correct / (support + predictions) if exists else None,
    }


def confusion_matrix(matches: list[ImageMatch], class_count: int, score_threshold: float) -> list[list[int]]:
    """Counts (K+1, K+1): row = truth, column = prediction, the last of each is the background.

    Missed objects stand in the last column, predictions on nothing in the last row. The rule is told in `matching`.
    """
    matrix = np.zeros((class_count + 1, class_count + 1), dtype=np.int64)
    for match in matches:
        finder_of, object_of = confused_pairs(match, score_threshold)
        seen_as = np.append(match.found_class, class_count)[finder_of]  # -1, not found, picks the appended background
        np.add.at(matrix, (match.truth_class, seen_as), 1)
        on_nothing = (object_of < 0) & (match.found_score >= score_threshold)
        np.add.at(matrix[class_count], match.found_class[on_nothing], 1)
    rows: list[list[int]] = matrix.tolist()
    return rows


def _middle_of_best(f1: Floats) -> float:
    """(1001,) -> threshold."""
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return round(float(_THRESHOLDS[best[len(best) // 2]]), 3)


def _sweep(matches: list[ImageMatch], class_count: int, thresholds: Floats) -> tuple[Ints, Ints, Ints]:
    """Support (K,), predictions (K, T) and correct predictions (K, T) with a score of at least each threshold."""
    truth_class = np.concatenate([np.empty(0, np.int64), *(m.truth_class for m in matches)])
    found_class = np.concatenate([np.empty(0, np.int64), *(m.found_class for m in matches)])
    score = np.concatenate([np.empty(0), *(m.found_score for m in matches)])
    right = np.concatenate([np.empty(0, bool), *(m.own_class >= 0 for m in matches)])
    predictions = [_count_above(score[found_class == k], thresholds) for k in range(class_count)]
    correct = [_count_above(score[right & (found_class == k)], thresholds) for k in range(class_count)]
    shape = (class_count, len(thresholds))
    return (
        np.bincount(truth_class, minlength=class_count),
        np.array(predictions, dtype=np.int64).reshape(shape),
        np.array(correct, dtype=np.int64).reshape(shape),
    )


def _count_above(scores: Floats, thresholds: Floats) -> Ints:
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


def _ratio(part: Ints, whole: Ints) -> Floats:
    return np.asarray(part / np.maximum(whole, 1), dtype=np.float64)


def _f1(support: Ints, predictions: Ints, correct: Ints) -> Floats:
    """F1 = 2 TP / (objects + predictions), the harmonic mean of precision and recall without its 0/0."""
    return _ratio(2 * correct, support + predictions)
