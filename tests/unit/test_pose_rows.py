"""What a pose model saw, as COCO results: whose box, which class, how sure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmtrain.engine.pose_rows import pose_rows


class Instances(dict[str, Any]):
    """Fields by name and by attribute, as MMEngine's InstanceData has them."""

    __getattr__ = dict.__getitem__


def sample(**fields: Any) -> Any:
    """One image with the poses of two points each."""
    return SimpleNamespace(img_id=7, category_id=np.array(1), pred_instances=Instances(fields))


def test_a_crop_has_the_class_of_its_box_and_is_as_sure_as_its_sure_points() -> None:
    [row] = pose_rows(
        sample(
            keypoints=np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]),
            keypoint_scores=np.array([[0.9, 0.5, 0.1]]),  # the last is not sure: it does not count
            bboxes=np.array([[10.0, 20.0, 40.0, 60.0]]),
            bbox_scores=np.array([0.8]),
        )
    )
    assert row == {
        "image_id": 7,
        "category_id": 1,
        "bbox": [10.0, 20.0, 30.0, 40.0],
        "score": pytest.approx(0.8 * 0.7),
        "keypoints": [1.0, 2.0, 0.9, 3.0, 4.0, 0.5, 5.0, 6.0, 0.1],
    }


def test_without_a_sure_point_a_pose_has_no_score() -> None:
    points = {"keypoints": np.zeros((1, 2, 2)), "keypoint_scores": np.array([[0.1, -0.2]])}
    [row] = pose_rows(sample(**points, bboxes=np.array([[0.0, 0.0, 1.0, 1.0]]), bbox_scores=np.ones(1)))
    assert row["score"] == 0


def test_a_one_stage_model_is_as_sure_of_a_pose_as_of_its_box() -> None:
    found = {
        "keypoints": np.zeros((2, 2, 2)),
        "keypoint_scores": np.full((2, 2), 0.5),
        "bboxes": np.array([[0.0, 0.0, 4.0, 2.0], [1.0, 1.0, 2.0, 2.0]]),
        "bbox_scores": np.array([0.9, 0.3]),
        "labels": np.array([0, 0]),
    }
    assert [(row["category_id"], row["score"]) for row in pose_rows(sample(**found))] == [(0, 0.9), (0, 0.3)]
    nothing = {name: value[:0] for name, value in found.items()}
    assert list(pose_rows(sample(**nothing))) == []
