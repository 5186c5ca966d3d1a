"""Average precision as COCO defines it, from faster-coco-eval (C++, numbers equal pycocotools').

K = classes; 10 IoU thresholds 0.50:0.05:0.95; 101 recall points; areas in pixels: small < 32^2 < medium < 96^2 < large.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from mmtrain.reports.models import Metrics, PrCurve, PrCurves

Geometry = Literal["bbox", "segm"]
Annotation = dict[str, Any]
Floats = NDArray[np.float64]

_ALL, _SMALL, _MEDIUM, _LARGE = range(4)  # the area axis of COCOeval
DETECTION_LIMITS = (1, 10, 100)
"""Per image: COCOeval's own, its last axis."""
_MOST_DETECTIONS = -1


class Truth(NamedTuple):
    """A COCO ground truth file: image ids, class names by category id 0..K-1, and the annotations."""

    images: list[dict[str, Any]]
    class_names: list[str]
    annotations: list[Annotation]


class CocoTables(NamedTuple):
    """Raw COCOeval output; -1 marks what does not exist (no ground truth)."""

    precision: Floats  # (10 IoU, 101 recall, K, 4 areas, 3 detection limits)
    scores: Floats  # same shape
    recall: Floats  # (10 IoU, K, 4 areas, 3 detection limits)
    recall_points: Floats  # (101,)


def read_truth(annotations: Path) -> Truth:
    """Read COCO ground truth; categories must be numbered 0..K-1 (our own conversion does that)."""
    data = orjson.loads(annotations.read_bytes())
    names = {category["id"]: category["name"] for category in data["categories"]}
    if sorted(names) != list(range(len(names))):
        raise ValueError(f"{annotations}: category ids are {sorted(names)}, expected 0..{len(names) - 1}")
    return Truth(data["images"], [names[i] for i in range(len(names))], data["annotations"])


def coco_tables(
    truth: Truth, predictions: list[Annotation], geometry: Geometry | Literal["keypoints"], sigmas: Sequence[float] = ()
) -> CocoTables:
    """Run COCOeval on copies: it writes into the dictionaries it is given.

    Args:
        sigmas: of each keypoint, for OKS; then there are 3 areas (all, medium, large) and 1 detection limit (20).
    """
    categories = [{"id": i, "name": name} for i, name in enumerate(truth.class_names)]
    coco_truth = COCO(
        {"images": truth.images, "categories": categories, "annotations": [*map(dict, truth.annotations)]}
    )
    coco_found = coco_truth.loadRes([_for_geometry(prediction, geometry) for prediction in predictions])
    run = COCOeval_faster(coco_truth, coco_found, geometry, kpt_oks_sigmas=np.array(sigmas) if sigmas else None)
    run.params.catIds = [*range(len(truth.class_names))]  # with keypoints it leaves out classes without objects
    run.evaluate()
    run.accumulate()
    return CocoTables(
        np.asarray(run.eval["precision"]),
        np.asarray(run.eval["scores"]),
        np.asarray(run.eval["recall"]),
        np.asarray(run.params.recThrs),
    )


def summary(tables: CocoTables) -> Metrics:
    """The COCO numbers worth showing, as fractions 0..1."""
    ap = tables.precision[..., _MOST_DETECTIONS]
    return {
        "mAP@0.5:0.95": mean_of_existing(ap[..., _ALL]),
        "mAP@0.5": mean_of_existing(ap[0, ..., _ALL]),
        "mAP@0.75": mean_of_existing(ap[5, ..., _ALL]),
        "mAP_small": mean_of_existing(ap[..., _SMALL]),
        "mAP_medium": mean_of_existing(ap[..., _MEDIUM]),
        "mAP_large": mean_of_existing(ap[..., _LARGE]),
        **{
            f"AR@{most}": mean_of_existing(tables.recall[:, :, _ALL, limit])
            for limit, most in enumerate(DETECTION_LIMITS)
        },
    }


def class_summary(tables: CocoTables, class_id: int) -> Metrics:
    """AP and AR of one class over all areas."""
    ap = tables.precision[:, :, class_id, _ALL, _MOST_DETECTIONS]  # (10, 101)
    ar = tables.recall[:, class_id, _ALL]  # (10, 3)
    return {"ap_50_95": mean_of_existing(ap), "ap_50": mean_of_existing(ap[0])} | {
        f"ar_{most}": mean_of_existing(ar[:, limit]) for limit, most in enumerate(DETECTION_LIMITS)
    }


def pr_curves(tables: CocoTables, class_names: list[str]) -> PrCurves:
    """Precision over recall at IoU 0.5 for each class that has ground truth."""
    precision = tables.precision[0, :, :, _ALL, _MOST_DETECTIONS]  # (101, K)
    score = tables.scores[0, :, :, _ALL, _MOST_DETECTIONS]
    return PrCurves(
        recall=tables.recall_points.round(2).tolist(),
        classes={
            name: _pr_curve(precision[:, k], score[:, k]) for k, name in enumerate(class_names) if precision[0, k] > -1
        },
    )


def mean_of_existing(table: Floats) -> float | None:
    """Mean without COCO's -1 entries; None when nothing is left."""
    existing = table[table > -1]
    return float(existing.mean()) if existing.size else None


def _pr_curve(precision: Floats, score: Floats) -> PrCurve:
    reached = precision > 0  # a recall the detections never reach has precision 0, a real point never does
    return PrCurve(
        precision=precision.round(4).tolist(),
        score=[round(float(s), 4) if ok else None for s, ok in zip(score, reached, strict=True)],
    )


def _for_geometry(prediction: Annotation, geometry: str) -> Annotation:
    """Without its box a mask or a pose is measured by its own area: the right one of small, medium and large."""
    unwanted = "segmentation" if geometry == "bbox" else "bbox"
    return {key: value for key, value in prediction.items() if key != unwanted}
