"""What the certificate takes for the same, and what for different."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmtrain.exporters.certificate import (
    Certificate,
    FileFacts,
    Scores,
    Tensors,
    Tolerances,
    Validation,
    page,
)
from mmtrain.exporters.comparing import Difference, difference, overlaps

BOXES = np.array([[10, 10, 50, 60], [100, 20, 140, 90], [12, 200, 70, 260]], dtype=np.float32)
SIZE = (300, 200)


def found(**changes: Any) -> dict[str, Any]:
    whole = {"boxes": BOXES, "scores": np.array([0.9, 0.6, 0.3], np.float32), "labels": np.array([0, 1, 0])}
    return whole | changes


def test_the_same_is_the_same_in_any_order() -> None:
    turned = {name: values[::-1] for name, values in found().items()}
    seen = difference(found(), turned, SIZE, margin=0.002)
    assert (seen.objects, seen.unmatched, seen.largest) == (2, 0, 0.0)


def test_errors_are_measured_in_sides_of_the_image() -> None:
    seen = difference(found(), found(boxes=BOXES + 0.3), SIZE, margin=0.002)
    assert seen.box == pytest.approx(0.3 / 300, rel=1e-3)
    assert seen.unmatched == 0


@pytest.mark.parametrize(
    "changes",
    [{"labels": np.array([1, 1, 0])}, {"boxes": BOXES + 20}, {"boxes": BOXES[:, [1, 0, 3, 2]]}],
    ids=["another class", "moved", "swapped sides"],
)
def test_what_is_elsewhere_or_another_class_has_no_partner(changes: dict[str, Any]) -> None:
    assert difference(found(), found(**changes), SIZE, margin=0.002).unmatched > 0


def test_an_object_that_is_missing_counts_unless_it_is_at_the_edge_of_what_is_reported() -> None:
    without_last = {name: values[:2] for name, values in found().items()}
    assert difference(found(), without_last, SIZE, margin=0.002).unmatched == 0  # 0.3 < 0.6: the list just ends earlier
    without_first = {name: values[1:] for name, values in found().items()}
    assert difference(found(), without_first, SIZE, margin=0.002).unmatched == 1


def test_masks_and_points() -> None:
    masks = np.zeros((3, *SIZE), bool)
    masks[:, :10, :10] = True
    other = masks.copy()
    other[0, 0, :5] = False
    assert difference(found(masks=masks), found(masks=other), SIZE, margin=0).mask == pytest.approx(0.05)
    points = np.ones((3, 4, 3), np.float32)
    assert difference(found(keypoints=points), found(keypoints=points + 3), SIZE, margin=0).keypoint == 3  # of scores


def test_pixels() -> None:
    classes = np.zeros((10, 10), np.uint8)
    other = classes.copy()
    other[0, :3] = 1
    assert difference({"class_map": classes}, {"class_map": other}, (10, 10), margin=0).pixels == pytest.approx(0.03)


def test_boxes_without_area_overlap_with_themselves_alone() -> None:
    points = np.array([[5, 5, 5, 5], [9, 9, 9, 9]], dtype=np.float32)
    np.testing.assert_array_equal(overlaps(points, points), np.eye(2))


def certificate(**changes: Any) -> Certificate:
    facts: dict[str, Any] = {
        "model_name": "m", "task": "object_detection", "format": "onnx", "precision": "fp32", "opset": 17,
        "file": FileFacts(name="model.onnx", size_bytes=1, sha256="0", operators={"Conv": 3}),
        "tolerances": Tolerances(drop_points=0.1), "tensors": Tensors(errors={"boxes": 1e-5}),
        "probes": Difference(objects=100), "probe_images": 4, "validation": None, "speed": None, "runtime": {},
    }  # fmt: skip
    return Certificate(**(facts | changes))


def validation(before: float, after: float) -> Validation:
    scores = [Scores(overall=value, per_class={"a": value}) for value in (before, after)]
    return Validation(images=5, metric="mAP", pytorch=scores[0], exported=scores[1])


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"tensors": Tensors(errors={"boxes": 0.01})}, "output boxes differs by 0.01"),
        ({"tensors": Tensors(errors={"boxes": float("nan")})}, "output boxes differs"),
        ({"probes": Difference(objects=100, box=0.002)}, "boxes of the probes"),
        ({"probes": Difference(objects=100, score=0.002)}, "scores of the probes"),
        ({"task": "pose_estimation", "probes": Difference(objects=100, keypoint=0.002)}, "keypoints of the probes"),
        ({"task": "instance_segmentation", "probes": Difference(objects=100, mask=0.06)}, "masks"),
        ({"task": "semantic_segmentation", "probes": Difference(pixels=0.01)}, "pixels of another class"),
        ({"probes": Difference(objects=100, unmatched=2)}, "2 objects of 100 in the probes have no partner"),
        ({"validation": validation(50, 49.8)}, "mAP fell by 0.20 points"),
        ({"tensors": Tensors(errors={}), "probes": Difference()}, "nothing was compared"),
        ({"precision": "int8"}, "cannot be judged without validation images"),
    ],
)
def test_whatever_is_too_far_apart_fails_by_name(changes: dict[str, Any], failure: str) -> None:
    judged = certificate(**changes)
    assert judged.verdict == "fail"
    assert any(failure in words for words in judged.failures)
    assert failure.split(maxsplit=1)[0] in page(judged)


def test_what_is_near_enough_passes_and_a_gain_is_no_drop() -> None:
    assert certificate(validation=validation(50, 49.95)).verdict == "pass"
    assert certificate(validation=validation(50, 70)).verdict == "pass"
    assert certificate(precision="int8", probes=Difference(box=1.0), validation=validation(50, 50)).verdict == "pass"
    assert "Pass" in page(certificate())
