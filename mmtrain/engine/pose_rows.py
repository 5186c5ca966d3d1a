"""What a pose model sees in one image or crop, as COCO results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

COUNTED_FROM = 0.2
"""Points surer than this count in a pose's score (CocoMetric's keypoint_score_thr)."""


def pose_rows(sample: Any) -> Iterator[dict[str, Any]]:
    """The rows of one PoseDataSample, in pixels of the original picture.

    `pred_instances`: keypoints (N, K, 2), keypoint_scores (N, K), bboxes (N, 4) xyxy, bbox_scores (N,). A one-stage
    model has labels (N,), and its pose is as sure as its box. A top-down model's single box and class are given, and
    its pose is as sure as the points that were found, which is CocoMetric's "bbox_keypoint".
    """
    found = sample.pred_instances
    one_stage = "labels" in found
    boxes_xywh = np.asarray(found.bboxes, dtype=np.float64).reshape(-1, 4)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    points = np.concatenate([found.keypoints, np.asarray(found.keypoint_scores)[..., None]], axis=-1)  # (N, K, 3)
    labels = np.asarray(found.labels) if one_stage else np.full(len(points), int(sample.category_id))
    scores = np.asarray(found.bbox_scores, dtype=np.float64)
    if not one_stage:
        scores = scores * _mean_of_sure(points[..., 2])
    for box_xywh, label, score, pose in zip(boxes_xywh, labels, scores, points, strict=True):
        yield {
            "image_id": int(sample.img_id),
            "category_id": int(label),
            "bbox": [round(float(value), 3) for value in box_xywh],
            "score": round(float(score), 5),
            "keypoints": [round(float(value), 3) for value in pose.ravel()],
        }


def _mean_of_sure(scores: NDArray[Any]) -> NDArray[np.float64]:
    """(N, K) -> (N,); 0 where no point is sure."""
    sure = scores > COUNTED_FROM
    return np.asarray((scores * sure).sum(axis=1) / np.maximum(sure.sum(axis=1), 1), dtype=np.float64)
