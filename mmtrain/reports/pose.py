"""Pose: from ground truth and predicted keypoints on disk to an Evaluation.

Two comparisons, because they answer two questions:

* *Were the poses found?* Object keypoint similarity (OKS) in the place of IoU, as COCO has it
  (cocodataset.org/#keypoints-eval): the mean over the labelled points of ``exp(-d^2 / (2 area (2 sigma)^2))``. AP and
  AR come from COCOeval; precision, recall and the confusion matrix count a pose as found from OKS 0.5.
* *Where do the points go wrong?* Whatever their points, a prediction belongs to the object whose box its own box
  overlaps by IoU 0.5 (`matching`), so that also a bad pose is measured. PCK (Yang and Ramanan 2013) is the share of
  points that are nearer to their truth than a part of the longer side of the object's box; it is taken over the
  labelled points (v > 0) of all objects, and those of an object that nothing belongs to are wrong. "PCK@0.1" is the
  mean over the keypoints, as MMPose's PCKAccuracy. A point is *swapped* if it is nearer to the truth of its partner
  (left and right) than to its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from mmtrain.reports import confusion
from mmtrain.reports.coco_metrics import (
    Annotation,
    CocoTables,
    Floats,
    Truth,
    coco_tables,
    mean_of_existing,
    pr_curves,
    read_truth,
)
from mmtrain.reports.known import known, mean_of_known
from mmtrain.reports.matching import MATCH_IOU, ImageMatch, by_image, match_images
from mmtrain.reports.models import Evaluation, ImageScore, Metrics, Ranking
from mmtrain.reports.ranking import best_and_worst
from trainer_sdk.tasks import Task

PCK_PARTS = (0.05, 0.1, 0.2)
_UI_PCK = 0.2  # what the platform's "PCK" shows: the part most of MMPose's configurations use
_ALL, _MEDIUM, _LARGE = range(3)  # the area axis of COCOeval with keypoints
Pairs = Sequence[tuple[int, int]]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Points:
    """N objects with labelled points, K points each, in pixels of the picture."""

    truth: Floats  # (N, K, 2)
    labelled: Bools  # (N, K)
    found: Floats  # (N, K, 2), NaN where no prediction belongs to the object
    oks: Floats  # (N,), 0 where no prediction does
    side: Floats  # (N,) longer side of the object's box
    image_id: NDArray[np.int64]  # (N,)

    def distance(self) -> Floats:
        """(N, K), NaN where not found."""
        return np.asarray(np.linalg.norm(self.found - self.truth, axis=-1), dtype=np.float64)


def evaluate_pose(
    annotations: Path,
    predictions: Path,
    sigmas: Sequence[float],
    *,
    names: Sequence[str],
    flip_pairs: Pairs = (),
    score_threshold: float | None = None,
) -> Evaluation:
    """Measure predicted poses on one split.

    Args:
        annotations: COCO ground truth with keypoints [x, y, v] * K; category ids 0..C-1, annotation ids from 1.
        predictions: JSON list of {image_id, category_id, bbox (xywh, px), score, keypoints [x, y, score] * K}.
        sigmas: K, the same that the model was trained and validated with.
        names: of the K keypoints.
        flip_pairs: 0-based indices of keypoints that are left and right of each other.
        score_threshold: as in `evaluate.evaluate`.

    Returns:
        Metrics "OKS-AP", "OKS-AP@0.5", "OKS-AP@0.75", "OKS-AP_medium", "OKS-AP_large", "OKS-AR", "OKS-AR@0.5",
        "OKS-AR@0.75", "PCK@0.05", "PCK@0.1", "PCK@0.2", "error_px" (mean over labelled points of found objects),
        "swapped" (share of the points of flip pairs), "precision", "recall", "f1", and for the platform's UI "OKS"
        (mean over the objects) and "PCK" (at 0.2). `Evaluation.keypoints` has the same of each keypoint.

    Raises:
        ValueError: a number of keypoints that is not that of `sigmas`.
    """
    truth = _with_points(read_truth(annotations), len(sigmas))
    found: list[Annotation] = orjson.loads(predictions.read_bytes())
    _check(found, len(sigmas), predictions)
    if len(names) != len(sigmas):
        raise ValueError(f"{len(names)} names of keypoints, but {len(sigmas)} sigmas")
    measure = np.array(sigmas, dtype=np.float64)
    tables = coco_tables(truth, found, "keypoints", sigmas)
    matches = match_images(truth, found, "bbox", lambda _, d, g, __: oks(d, g, measure))
    classes = len(truth.class_names)
    chosen = confusion.best_threshold(matches, classes) if score_threshold is None else score_threshold
    counts = confusion.counts_at(matches, classes, chosen)
    point = confusion.operating_point(counts, chosen, score_threshold is None)
    points = pair_points(truth, found, measure)
    return Evaluation(
        task=Task.POSE,
        images=len(truth.images),
        boxes=int(counts.support.sum()),
        predictions=len(found),
        class_names=truth.class_names,
        metrics=_oks_metrics(tables)
        | _point_metrics(points, flip_pairs)
        | {"precision": point.precision, "recall": point.recall, "f1": point.f1},
        per_class={name: _one_class(tables, counts, k) for k, name in enumerate(truth.class_names)},
        operating_point=point,
        confusion_matrix=confusion.confusion_matrix(matches, classes, chosen),
        pr_curves=pr_curves(tables, truth.class_names),
        keypoints=_by_keypoint(points, names, flip_pairs),
        ranking=_ranking(truth, points),
    )


def oks(found: list[Annotation], objects: list[Annotation], sigmas: Floats) -> Floats:
    """(D, G) similarity of each prediction with each object.

    An object without labelled points is a region: points within twice its box are at distance 0 (COCOeval's rule).
    """
    if not found or not objects:
        return np.zeros((len(found), len(objects)))
    guess = _xyv(found)[:, None, :, :2]  # (D, 1, K, 2)
    labels = _xyv(objects)  # (G, K, 3)
    boxes_xywh = np.array([o["bbox"] for o in objects], dtype=np.float64)[:, None]  # (G, 1, 4)
    low, high = boxes_xywh[..., :2] - boxes_xywh[..., 2:], boxes_xywh[..., :2] + 2 * boxes_xywh[..., 2:]
    labelled: Bools = np.asarray(labels[:, :, 2] > 0, dtype=np.bool_)
    empty: Bools = np.asarray(~labelled.any(axis=1))  # (G,)
    outside = np.maximum(low - guess, 0) + np.maximum(guess - high, 0)
    offset = np.where(empty[:, None, None], outside, guess - labels[..., :2])  # (D, G, K, 2)
    area = np.array([o["area"] for o in objects], dtype=np.float64)[:, None] + np.spacing(1)
    similarity = np.exp(-(offset**2).sum(axis=-1) / (2 * area * (2 * sigmas) ** 2))  # (D, G, K)
    counted = labelled | empty[:, None]
    return np.asarray((similarity * counted).sum(axis=-1) / counted.sum(axis=-1), dtype=np.float64)


def pair_points(truth: Truth, found: list[Annotation], sigmas: Floats) -> Points:
    """The labelled objects with the points of the predictions that belong to them by their boxes."""
    objects_of, found_of = by_image(truth.annotations), by_image(found)
    objects: list[Annotation] = []
    finders: list[Annotation | None] = []
    for match in match_images(truth, found, "bbox"):
        objects += [objects_of[match.image_id][row] for row in match.truth_row]
        finders += _finders(match, found_of[match.image_id])
    labels = _xyv(objects) if objects else np.empty((0, len(sigmas), 3))
    guesses = np.full((len(objects), len(sigmas), 2), np.nan)
    similarity = np.zeros(len(objects))
    for row, (labelled, finder) in enumerate(zip(objects, finders, strict=True)):
        if finder is not None:
            guesses[row] = _xyv([finder])[0, :, :2]
            similarity[row] = oks([finder], [labelled], sigmas)[0, 0]
    return Points(
        truth=labels[..., :2],
        labelled=labels[..., 2] > 0,
        found=guesses,
        oks=similarity,
        side=np.array([max(o["bbox"][2:]) for o in objects], dtype=np.float64),
        image_id=np.array([o["image_id"] for o in objects], dtype=np.int64),
    )


def swapped(points: Points, flip_pairs: Pairs) -> Floats:
    """(N, K) 1 where a found point is nearer to its partner's truth than to its own, 0 where not, NaN elsewhere."""
    result = np.full(points.labelled.shape, np.nan)
    own = points.distance()
    for first, second in flip_pairs:
        for point, partner in ((first, second), (second, first)):
            other = np.linalg.norm(points.found[:, point] - points.truth[:, partner], axis=-1)
            both = points.labelled[:, point] & points.labelled[:, partner] & ~np.isnan(other)
            result[both, point] = other[both] < own[both, point]
    return result


def _finders(match: ImageMatch, found: list[Annotation]) -> list[Annotation | None]:
    """The prediction that each object of the image owns."""
    finders: list[Annotation | None] = [None] * len(match.truth_class)
    for row, owned in zip(match.found_row, match.own_class, strict=True):
        if owned >= 0:
            finders[owned] = found[row]
    return finders


def _oks_metrics(tables: CocoTables) -> Metrics:
    ap, ar = tables.precision[..., 0], tables.recall[..., 0]  # (10, 101, C, 3) and (10, C, 3)
    return {
        "OKS-AP": mean_of_existing(ap[..., _ALL]),
        "OKS-AP@0.5": mean_of_existing(ap[0, ..., _ALL]),
        "OKS-AP@0.75": mean_of_existing(ap[5, ..., _ALL]),
        "OKS-AP_medium": mean_of_existing(ap[..., _MEDIUM]),
        "OKS-AP_large": mean_of_existing(ap[..., _LARGE]),
        "OKS-AR": mean_of_existing(ar[..., _ALL]),
        "OKS-AR@0.5": mean_of_existing(ar[0, :, _ALL]),
        "OKS-AR@0.75": mean_of_existing(ar[5, :, _ALL]),
    }


def _one_class(tables: CocoTables, counts: confusion.ClassCounts, class_id: int) -> Metrics:
    ap = tables.precision[:, :, class_id, _ALL, 0]
    return {
        "ap_50_95": mean_of_existing(ap),
        "ap_50": mean_of_existing(ap[0]),
        "ar": mean_of_existing(tables.recall[:, class_id, _ALL, 0]),
        **confusion.class_rates(counts, class_id),
        "support": int(counts.support[class_id]),
        "predictions": int(counts.predictions[class_id]),
    }


def _point_metrics(points: Points, flip_pairs: Pairs) -> Metrics:
    near = {part: mean_of_known(_pck(points, part)) for part in PCK_PARTS}
    return {
        **{f"PCK@{part:g}": value for part, value in near.items()},
        "error_px": mean_of_known(points.distance()[points.labelled]),
        "swapped": mean_of_known(swapped(points, flip_pairs)),
        "OKS": mean_of_known(points.oks),
        "PCK": near[_UI_PCK],
    }


def _by_keypoint(points: Points, names: Sequence[str], flip_pairs: Pairs) -> dict[str, Metrics]:
    """PCK, error in pixels, share swapped and how often the point is labelled, of each keypoint."""
    distance, exchanged = points.distance(), swapped(points, flip_pairs)
    near = {f"pck_{part:g}": _pck(points, part) for part in PCK_PARTS}
    return {
        name: {key: known(values[k]) for key, values in near.items()}
        | {
            "error_px": mean_of_known(distance[points.labelled[:, k], k]),
            "swapped": mean_of_known(exchanged[:, k]),
            "support": int(points.labelled[:, k].sum()),
        }
        for k, name in enumerate(names)
    }


def _pck(points: Points, part: float) -> Floats:
    """(K,) share of the labelled points nearer than this part of the box's longer side; NaN if none is labelled."""
    near = (points.distance() <= part * points.side[:, None]) & points.labelled  # NaN is not near
    labelled = points.labelled.sum(axis=0)
    return np.asarray(np.where(labelled > 0, near.sum(axis=0) / np.maximum(labelled, 1), np.nan), dtype=np.float64)


def _ranking(truth: Truth, points: Points) -> Ranking:
    return best_and_worst("mean OKS", (_image_score(image, points) for image in truth.images))


def _image_score(image: Annotation, points: Points) -> ImageScore | None:
    here = points.image_id == image["id"]
    if not here.any():
        return None
    score, objects = float(points.oks[here].mean()), int(here.sum())
    good = int((points.oks[here] >= MATCH_IOU).sum())
    return ImageScore(
        image_id=image["id"],
        file_name=image["file_name"],
        score=score,
        objects=objects,
        mistakes=objects - good,
        reason=f"mean OKS {score:.3f}, {good} of {objects} found",
    )


def _with_points(truth: Truth, count: int) -> Truth:
    """Every object has its points, and those without a labelled one are regions that COCOeval ignores."""
    annotations = [o | {"keypoints": o.get("keypoints") or [0] * 3 * count} for o in truth.annotations]
    _check(annotations, count, "the ground truth")
    labelled = [sum(v > 0 for v in o["keypoints"][2::3]) for o in annotations]
    rows = [o | {"num_keypoints": n, "ignore": n == 0} for o, n in zip(annotations, labelled, strict=True)]
    return truth._replace(annotations=rows)


def _check(annotations: Iterable[Annotation], count: int, where: object) -> None:
    for annotation in annotations:
        numbers, image_id = len(annotation["keypoints"]), annotation["image_id"]
        if numbers != 3 * count:
            raise ValueError(f"{where}: {numbers / 3:g} keypoints in image {image_id}, not {count}")


def _xyv(annotations: Sequence[Annotation]) -> Floats:
    """(N, K, 3)."""
    flat = np.array([annotation["keypoints"] for annotation in annotations], dtype=np.float64)
    return flat.reshape(len(annotations), -1, 3)
