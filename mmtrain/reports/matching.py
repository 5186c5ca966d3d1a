"""Which prediction found which object, at IoU 0.5. The base of precision, recall and the confusion matrix.

The rule, image by image, in order of falling score, one prediction per object and one object per prediction:

1. A prediction takes the free object of its own class with the highest IoU, if that is at least 0.5 (COCO's rule).
2. A prediction left over, at least half inside a crowd region of its class, is ignored: neither right nor wrong.
3. The confusion matrix then pairs what is left above a score threshold, whatever the class, by the same greedy rule.

Step 1 depends on no threshold (a lower score never takes an object from a higher one), so it is done once. Doing it
before step 3 makes the matrix agree with the table: diagonal / row sum = recall, diagonal / column sum = precision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as rle_masks
from numpy.typing import NDArray

from mmtrain.reports.coco_metrics import Annotation, Floats, Geometry, Truth

MATCH_IOU = 0.5
Ints = NDArray[np.int64]
Similarity = Callable[[Annotation, list[Annotation], list[Annotation], bool], Floats]
"""Image, D predictions, G objects, and whether these are crowd regions -> (D, G), 0..1."""


@dataclass(frozen=True, eq=False)
class ImageMatch:
    """One image: D predictions by falling score (ignored ones left out), G objects without crowds."""

    image_id: int
    truth_class: Ints  # (G,)
    found_class: Ints  # (D,)
    found_score: Floats  # (D,)
    ious: Floats  # (D, G), 0..1
    own_class: Ints  # (D,) index of the object found by rule 1, -1 for none
    truth_row: Ints  # (G,) position in `by_image(annotations)[image_id]`
    found_row: Ints  # (D,) position in `by_image(predictions)[image_id]`


def match_images(
    truth: Truth, predictions: Iterable[Annotation], geometry: Geometry, similarity: Similarity | None = None
) -> list[ImageMatch]:
    """Apply rules 1 and 2 to every image of the split, in the order of the file.

    Args:
        similarity: what stands in the place of IoU, such as OKS; then `geometry` is of no interest.
    """
    objects, found = by_image(truth.annotations), by_image(predictions)
    measure = similarity or (lambda image, d, g, crowd: _ious(image, d, g, geometry, crowd))
    return [_match_image(image, objects[image["id"]], found[image["id"]], measure) for image in truth.images]


def confused_pairs(match: ImageMatch, score_threshold: float) -> tuple[Ints, Ints]:
    """Rule 3: (G,) the prediction that found each object and (D,) the object each prediction found; -1 for none.

    Predictions below the threshold have no object and are found by none.
    """
    shown = match.found_score >= score_threshold
    object_of = np.where(shown, match.own_class, -1)
    free = np.setdiff1d(np.arange(len(match.truth_class)), object_of)
    left = np.flatnonzero(shown & (object_of < 0))
    pairs = _greedy(match.ious[np.ix_(left, free)])
    object_of[left[pairs >= 0]] = free[pairs[pairs >= 0]]
    finder_of = np.full(len(match.truth_class), -1)
    finder_of[object_of[object_of >= 0]] = np.flatnonzero(object_of >= 0)
    return finder_of, object_of


def by_image(annotations: Iterable[Annotation]) -> defaultdict[int, list[Annotation]]:
    """Annotations (or predictions) grouped by image id."""
    groups: defaultdict[int, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        groups[annotation["image_id"]].append(annotation)
    return groups


def as_rle(segmentation: Any, height: int, width: int) -> Any:
    """Polygons, uncompressed or compressed RLE -> one compressed RLE."""
    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        return segmentation
    converted = rle_masks.frPyObjects(segmentation, height, width)
    return rle_masks.merge(converted) if isinstance(converted, list) else converted


def _match_image(
    image: Annotation, objects: list[Annotation], found: list[Annotation], similarity: Similarity
) -> ImageMatch:
    scores = np.array([prediction["score"] for prediction in found], dtype=np.float64)
    falling = np.argsort(-scores, kind="stable")  # as COCOeval's merge sort
    found, scores = [found[row] for row in falling], scores[falling]
    ignored = np.array([bool(o.get("iscrowd") or o.get("ignore")) for o in objects], dtype=bool)
    solid = [o for o, out in zip(objects, ignored, strict=True) if not out]
    crowds = [o for o, out in zip(objects, ignored, strict=True) if out]
    truth_class, found_class = _classes(solid), _classes(found)
    ious = similarity(image, found, solid, False)
    own_class = _greedy(np.where(found_class[:, None] == truth_class, ious, 0.0))
    in_crowd = np.where(found_class[:, None] == _classes(crowds), similarity(image, found, crowds, True), 0.0)
    kept = (own_class >= 0) | ~(in_crowd >= MATCH_IOU).any(axis=1)
    return ImageMatch(
        image_id=image["id"],
        truth_class=truth_class,
        found_class=found_class[kept],
        found_score=scores[kept],
        ious=ious[kept],
        own_class=own_class[kept],
        truth_row=np.flatnonzero(~ignored),
        found_row=falling[kept],
    )


def _greedy(ious: Floats) -> Ints:
    """(D, G) -> (D,): each row in turn takes the free column of its highest IoU >= 0.5, else -1."""
    taken_by_row = np.full(ious.shape[0], -1)
    if ious.size == 0:
        return taken_by_row
    free = np.ones(ious.shape[1], dtype=bool)
    for row in np.flatnonzero(ious.max(axis=1) >= MATCH_IOU):
        available = np.where(free, ious[row], 0.0)
        best = int(available.argmax())
        if available[best] >= MATCH_IOU:
            taken_by_row[row], free[best] = best, False
    return taken_by_row


def _ious(
    image: Annotation, found: list[Annotation], objects: list[Annotation], geometry: Geometry, crowd: bool
) -> Floats:
    """(D, G) IoU; with crowd=True the part of the prediction that lies inside the region."""
    if not found or not objects:
        return np.zeros((len(found), len(objects)))
    shapes = (_shapes(image, annotations, geometry) for annotations in (found, objects))
    return np.asarray(rle_masks.iou(*shapes, [int(crowd)] * len(objects)), dtype=np.float64)


def _shapes(image: Annotation, annotations: list[Annotation], geometry: Geometry) -> object:
    if geometry == "bbox":
        return np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64)  # xywh
    return [as_rle(annotation["segmentation"], image["height"], image["width"]) for annotation in annotations]


def _classes(annotations: list[Annotation]) -> Ints:
    return np.array([annotation["category_id"] for annotation in annotations], dtype=np.int64)
