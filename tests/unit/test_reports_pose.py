"""Object keypoint similarity and PCK by hand, and AP against pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtrain.reports.models import Evaluation
from mmtrain.reports.pose import evaluate_pose

NAMES = ["nose", "left_eye", "right_eye"]
SIGMAS = [0.05, 0.1, 0.1]
BOX = [100.0, 100.0, 100.0, 50.0]
POINTS = [(120.0, 120.0), (140.0, 110.0), (160.0, 110.0)]


def person(image: int, points: list[tuple[float, float]], seen: tuple[int, ...] = (2, 2, 2), **more: Any) -> Any:
    keypoints = [number for point, v in zip(points, seen, strict=True) for number in (*point, v)]
    return {"image_id": image, "category_id": 0, "bbox": BOX, "area": 2000.0, "iscrowd": 0, "keypoints": keypoints,
            "num_keypoints": sum(v > 0 for v in seen)} | more  # fmt: skip


def guess(image: int, points: list[tuple[float, float]], score: float = 0.9, **more: Any) -> Any:
    keypoints = [number for point in points for number in (*point, 0.8)]
    return {"image_id": image, "category_id": 0, "bbox": BOX, "score": score, "keypoints": keypoints} | more


def write(folder: Path, objects: list[Any], found: list[Any], images: int = 2) -> tuple[Path, Path]:
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 300} for i in range(1, images + 1)],
        "categories": [{"id": 0, "name": "person", "keypoints": NAMES, "skeleton": []}],
        "annotations": [{"id": n} | o for n, o in enumerate(objects, start=1)],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(found))
    return folder / "truth.json", folder / "found.json"


def measure(folder: Path, objects: list[Any], found: list[Any], **options: Any) -> Evaluation:
    paths = write(folder, objects, found)
    return evaluate_pose(*paths, **({"sigmas": SIGMAS, "names": NAMES, "flip_pairs": [(1, 2)]} | options))


def moved(dx: float, dy: float = 0.0) -> list[tuple[float, float]]:
    return [(x + dx, y + dy) for x, y in POINTS]


def test_oks_is_what_the_formula_gives(tmp_path: Path) -> None:
    """One point labelled, 3 and 4 pixels off: exp(-25 / (2 * area * (2 sigma)^2))."""
    result = measure(tmp_path, [person(1, POINTS, (2, 0, 0))], [guess(1, moved(3, 4))])
    assert result.metrics["OKS"] == pytest.approx(math.exp(-25 / (2 * 2000 * 0.1**2)))


def test_oks_is_the_mean_over_the_labelled_points(tmp_path: Path) -> None:
    result = measure(tmp_path, [person(1, POINTS, (2, 1, 0))], [guess(1, moved(3, 4))])
    nose, eye = (math.exp(-25 / (2 * 2000 * (2 * sigma) ** 2)) for sigma in SIGMAS[:2])
    assert result.metrics["OKS"] == pytest.approx((nose + eye) / 2)
    expected_ap = sum((nose + eye) / 2 >= t / 100 for t in range(50, 100, 5)) / 10
    assert result.metrics["OKS-AP"] == pytest.approx(expected_ap)


def test_a_perfect_pose_scores_one(tmp_path: Path) -> None:
    result = measure(tmp_path, [person(1, POINTS), person(2, POINTS)], [guess(1, POINTS), guess(2, POINTS)])
    for key in ("OKS-AP", "OKS-AP@0.5", "OKS-AP@0.75", "OKS-AR", "PCK@0.05", "PCK", "OKS", "precision", "recall", "f1"):
        assert result.metrics[key] == pytest.approx(1.0), key
    assert (result.metrics["error_px"], result.metrics["swapped"]) == (0.0, 0.0)
    assert result.confusion_matrix == [[2, 0], [0, 0]]
    assert (result.boxes, result.predictions) == (2, 2)


def test_pck_counts_by_the_longer_side_of_the_box(tmp_path: Path) -> None:
    """Side 100: 8 pixels are within 0.1 and not within 0.05; the hidden point counts, the unlabelled one does not."""
    result = measure(tmp_path, [person(1, POINTS, (2, 1, 0))], [guess(1, moved(8))])
    assert [result.metrics[f"PCK@{part}"] for part in ("0.05", "0.1", "0.2")] == [0.0, 1.0, 1.0]
    assert result.keypoints["nose"]["error_px"] == pytest.approx(8.0)
    assert result.keypoints["right_eye"] == {
        "pck_0.05": None, "pck_0.1": None, "pck_0.2": None, "error_px": None, "swapped": None, "support": 0,
    }  # fmt: skip


def test_an_object_that_nobody_found_is_wrong_in_pck_and_has_no_error(tmp_path: Path) -> None:
    result = measure(tmp_path, [person(1, POINTS), person(2, POINTS)], [guess(1, POINTS)])
    assert (result.metrics["PCK@0.2"], result.metrics["error_px"], result.metrics["OKS"]) == (0.5, 0.0, 0.5)
    assert result.confusion_matrix == [[1, 1], [0, 0]]


def test_left_taken_for_right_is_called_swapped(tmp_path: Path) -> None:
    nose, left, right = POINTS
    result = measure(
        tmp_path, [person(1, POINTS), person(2, POINTS)], [guess(1, [nose, right, left]), guess(2, POINTS)]
    )
    assert result.metrics["swapped"] == 0.5
    assert [result.keypoints[name]["swapped"] for name in NAMES] == [None, 0.5, 0.5]


def test_the_worst_and_the_best_image_are_named(tmp_path: Path) -> None:
    ranking = measure(tmp_path, [person(1, POINTS), person(2, POINTS)], [guess(1, moved(9)), guess(2, POINTS)]).ranking
    assert ranking is not None
    assert ([image.file_name for image in ranking.worst], ranking.worst[0].reason[:9]) == (["1.jpg"], "mean OKS ")
    assert [(image.file_name, image.score) for image in ranking.best] == [("2.jpg", 1.0)]


def test_objects_without_a_labelled_point_are_not_asked_for(tmp_path: Path) -> None:
    """A prediction on one is neither right nor wrong."""
    found = [guess(1, POINTS), guess(2, POINTS)]
    result = measure(tmp_path, [person(1, POINTS), person(2, POINTS, (0, 0, 0))], found)
    assert (result.boxes, result.confusion_matrix) == (1, [[1, 0], [0, 0]])
    assert result.metrics["OKS-AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(("objects", "found"), [([], []), ([], [guess(1, POINTS)])])
def test_a_split_without_poses_says_none(tmp_path: Path, objects: list[Any], found: list[Any]) -> None:
    result = measure(tmp_path, objects, found)
    assert set(result.metrics.values()) == {None}
    json.dumps(result.model_dump(), allow_nan=False)


def test_no_predictions_are_zeros(tmp_path: Path) -> None:
    result = measure(tmp_path, [person(1, POINTS)], [])
    assert (result.metrics["OKS-AP"], result.metrics["PCK@0.2"], result.metrics["recall"]) == (0.0, 0.0, 0.0)


def test_another_number_of_keypoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 keypoints in image 1, not 2"):
        measure(tmp_path, [person(1, POINTS)], [], sigmas=[0.1, 0.1], names=NAMES[:2])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_numbers_equal_pycocotools(tmp_path: Path, seed: int) -> None:
    from pycocotools.coco import COCO  # type: ignore[import-untyped]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

    rng = np.random.default_rng(seed)
    objects, found = [], []
    for _ in range(30):
        image = int(rng.integers(1, 6))  # image 6 stays empty
        box = np.array([*rng.integers(0, 200, 2), *rng.integers(20, 150, 2)], dtype=np.float64)
        points = rng.uniform(box[:2], box[:2] + box[2:], (3, 2))
        seen = tuple(int(v) for v in rng.choice([0, 1, 2], 3, p=[0.3, 0.2, 0.5]))
        crowd = int(not any(seen) and rng.random() < 0.5)
        shape = {"bbox": box.tolist(), "area": float(0.5 * box[2] * box[3]), "iscrowd": crowd}
        objects.append(person(image, points.tolist(), seen, **shape))
        for _ in range(int(rng.integers(0, 3))):
            off = points + rng.normal(0, 6, (3, 2))
            found.append(guess(image, off.tolist(), round(float(rng.random()), 1), bbox=box.tolist()))
    truth, predictions = write(tmp_path, objects, found, images=6)
    ours = evaluate_pose(truth, predictions, SIGMAS, names=NAMES).metrics
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        without_boxes = [{key: value for key, value in row.items() if key != "bbox"} for row in found]
        theirs = COCOeval(coco, coco.loadRes(without_boxes), "keypoints")
        theirs.params.kpt_oks_sigmas = np.array(SIGMAS)
        theirs.evaluate(), theirs.accumulate(), theirs.summarize()
    keys = ["", "@0.5", "@0.75", "_medium", "_large"]
    expected = [None if value == -1 else pytest.approx(value, abs=1e-6) for value in theirs.stats[:8]]
    names = [f"OKS-AP{key}" for key in keys] + [f"OKS-AR{key}" for key in keys[:3]]
    assert [ours[name] for name in names] == expected


def test_a_class_without_objects_does_not_take_the_place_of_another(tmp_path: Path) -> None:
    truth, predictions = write(tmp_path, [person(1, POINTS) | {"category_id": 1}], [guess(1, POINTS, category_id=1)])
    truth.write_text(truth.read_text().replace('"categories": [', '"categories": [{"id": 1, "name": "dog"}, '))
    result = evaluate_pose(truth, predictions, SIGMAS, names=NAMES)
    assert [result.per_class[name]["ap_50_95"] for name in ("person", "dog")] == [None, pytest.approx(1.0)]
