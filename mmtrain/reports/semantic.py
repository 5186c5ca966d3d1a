"""Semantic segmentation: from two sets of indexed pictures to an Evaluation.

Pixel counts of class k over the whole split, without the pixels whose truth is 255 (Long et al. 2015, arXiv:1411.4038,
section 5; the same as MMSegmentation's IoUMetric, as fractions): TP, FP, FN;

    IoU = TP / (TP + FP + FN)    Acc = recall = TP / (TP + FN)    precision = TP / (TP + FP)
    Dice = F1 = 2 TP / (2 TP + FP + FN)    aAcc = all TP / all pixels    mIoU, mAcc, mDice: means over the classes

A class that neither truth nor prediction has is None and outside the means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmtrain.reports.known import known, mean_of_known
from mmtrain.reports.models import Evaluation, ImageScore, Metrics
from mmtrain.reports.ranking import best_and_worst
from trainer_sdk.tasks import Task

IGNORE = 255
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Indices = NDArray[np.uint8]
"""(height, width) class indices."""


class PixelCounts(NamedTuple):
    """Of each class, shapes (K,)."""

    truth: Ints
    found: Ints
    both: Ints

    @classmethod
    def of(cls, matrix: Ints) -> PixelCounts:
        """Of a confusion matrix (K, K): row = truth, column = prediction."""
        return cls(matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal())

    def iou(self) -> Floats:
        return _ratio(self.both, self.truth + self.found - self.both)

    def dice(self) -> Floats:
        return _ratio(2 * self.both, self.truth + self.found)

    def recall(self) -> Floats:
        return _ratio(self.both, self.truth)

    def precision(self) -> Floats:
        return _ratio(self.both, self.found)


def evaluate_semantic(
    truth: Mapping[int, Path],
    found: Mapping[int, Path],
    class_names: Sequence[str],
    *,
    file_names: Mapping[int, str] | None = None,
) -> Evaluation:
    """Measure predicted masks on one split.

    Args:
        truth: image id -> 8 bit picture of class indices, 0..K-1, and 255 for pixels to leave out: what the conversion
            writes below ``dataset/masks``.
        found: image id -> picture of class indices of the same size, of every image of `truth`: the worker's
            ``work/predictions_<split>/<image id, 6 digits>.png``.
        class_names: of the K classes, `background` included where the conversion added one.
        file_names: image id -> what to call the picture in the report; by default the name of its truth.

    Returns:
        Metrics "mIoU", "mAcc", "aAcc", "mDice"; per class "iou", "acc", "dice", "precision", "recall" and, in pixels,
        "support" and "predictions"; the confusion matrix (K, K) in pixels.

    Raises:
        ValueError: a prediction is missing, is of another size, or holds a number that is no class.
    """
    if lacking := truth.keys() - found.keys():
        raise ValueError(f"no predicted mask of image {min(lacking)} ({len(lacking)} of {len(truth)} are missing)")
    classes = len(class_names)
    names = {image_id: path.name for image_id, path in truth.items()} | dict(file_names or {})
    matrix = np.zeros((classes, classes), dtype=np.int64)
    scores = []
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter lock
        per_image = pool.map(lambda image_id: image_matrix(truth[image_id], found[image_id], classes), truth)
        for image_id, one in zip(truth, per_image, strict=True):
            matrix += one
            scores.append(_image_score(image_id, names[image_id], one))
    counts = PixelCounts.of(matrix)
    return Evaluation(
        task=Task.SEMANTIC,
        images=len(truth),
        pixels=int(matrix.sum()),
        class_names=[*class_names],
        metrics=_metrics(counts),
        per_class={name: _one_class(counts, k) for k, name in enumerate(class_names)},
        confusion_matrix=matrix.tolist(),
        ranking=best_and_worst("mIoU", scores),
    )


def image_matrix(truth: Path, found: Path, classes: int) -> Ints:
    """Confusion matrix (K, K) of one image, in pixels.

    Raises:
        ValueError: the two pictures do not fit each other or the classes.
    """
    labels, guesses = read_indices(truth), read_indices(found)
    if labels.shape != guesses.shape:
        raise ValueError(f"{found}: {_size(guesses)} pixels, but its truth has {_size(labels)}")
    counted = labels != IGNORE
    labels, guesses = labels[counted], guesses[counted]
    for path, indices in ((truth, labels), (found, guesses)):
        if indices.size and indices.max() >= classes:
            raise ValueError(f"{path}: holds {indices.max()}, but classes are 0..{classes - 1}")
    pairs = labels.astype(np.int32) * classes + guesses
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def read_indices(path: Path) -> Indices:
    """The numbers of an indexed or grey picture.

    Raises:
        ValueError: it has colours or more than 8 bits.
    """
    with Image.open(path) as picture:
        if picture.mode not in ("L", "P"):
            raise ValueError(f"{path}: not one 8 bit number per pixel (Pillow's mode {picture.mode})")
        return np.asarray(picture, dtype=np.uint8)


def _metrics(counts: PixelCounts) -> Metrics:
    return {
        "mIoU": mean_of_known(counts.iou()),
        "mAcc": mean_of_known(counts.recall()),
        "aAcc": known(counts.both.sum() / counts.truth.sum()) if counts.truth.any() else None,
        "mDice": mean_of_known(counts.dice()),
    }


def _one_class(counts: PixelCounts, class_id: int) -> Metrics:
    return {
        "iou": known(counts.iou()[class_id]),
        "acc": known(counts.recall()[class_id]),
        "dice": known(counts.dice()[class_id]),
        "precision": known(counts.precision()[class_id]),
        "recall": known(counts.recall()[class_id]),
        "support": int(counts.truth[class_id]),
        "predictions": int(counts.found[class_id]),
    }


def _image_score(image_id: int, name: str, matrix: Ints) -> ImageScore | None:
    """The mean over the classes in this image; None where every pixel is left out."""
    counts = PixelCounts.of(matrix)
    score = mean_of_known(counts.iou())
    if score is None:
        return None
    pixels = int(counts.truth.sum())
    wrong = pixels - int(counts.both.sum())
    return ImageScore(
        image_id=image_id,
        file_name=name,
        score=score,
        objects=pixels,
        mistakes=wrong,
        reason=f"mIoU {score:.3f}, {wrong / pixels:.1%} of the pixels wrong",
    )


def _ratio(part: Ints, whole: Ints) -> Floats:
    """NaN where there is nothing to divide by."""
    return np.asarray(np.where(whole > 0, part / np.maximum(whole, 1), np.nan), dtype=np.float64)


def _size(indices: Indices) -> str:
    return f"{indices.shape[1]}x{indices.shape[0]}"
