"""Numbers checked by hand, and against pycocotools where hands do not reach."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtrain.reports.evaluate import evaluate
from mmtrain.reports.models import Evaluation

Boxes = list[tuple[int, int, list[float]]]  # (image id, class id, xywh)


def write_split(
    folder: Path, objects: Boxes, found: list[dict[str, Any]], names: list[str], images: int = 2
) -> list[Path]:
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 300} for i in range(1, images + 1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": kind, "bbox": xywh, "area": xywh[2] * xywh[3], "iscrowd": 0,
             "segmentation": [rectangle(xywh)]}
            for n, (image, kind, xywh) in enumerate(objects, start=1)
        ],
    }  # fmt: skip
    paths = [folder / "truth.json", folder / "predictions.json"]
    for path, content in zip(paths, (truth, found), strict=True):
        path.write_text(json.dumps(content))
    return paths


def rectangle(xywh: list[float]) -> list[float]:
    x, y, w, h = xywh
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def seen(image: int, kind: int, xywh: list[float], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": kind, "bbox": xywh, "score": score}


def measure(folder: Path, objects: Boxes, found: list[dict[str, Any]], names: list[str], **options: Any) -> Evaluation:
    truth, predictions = write_split(folder, objects, found, names)
    return evaluate(truth, predictions, **({"task": "object_detection"} | options))


A, B, FAR = [10.0, 10.0, 50.0, 50.0], [200.0, 100.0, 80.0, 60.0], [300.0, 10.0, 40.0, 40.0]


def test_perfect_predictions_score_one(tmp_path: Path) -> None:
    result = measure(tmp_path, [(1, 0, A), (2, 1, B)], [seen(1, 0, A, 0.9), seen(2, 1, B, 0.8)], ["cat", "dog"])
    for key in ("mAP@0.5", "mAP@0.5:0.95", "precision", "recall", "f1", "AR@100", "mAP50(B)", "mAP50-95(B)"):
        assert result.metrics[key] == pytest.approx(1.0), key
    assert result.confusion_matrix == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert result.operating_point.score_threshold == pytest.approx(0.4)  # the middle of 0 .. 0.8
    assert result.per_class["cat"]["support"] == 1
    assert (result.images, result.boxes, result.predictions) == (2, 2, 2)
    assert result.metrics["mAP_large"] is None  # both boxes are medium


def test_a_swapped_class_stands_off_the_diagonal(tmp_path: Path) -> None:
    result = measure(tmp_path, [(1, 0, A), (2, 1, B)], [seen(1, 1, A, 0.9), seen(2, 1, B, 0.8)], ["cat", "dog"])
    assert result.confusion_matrix == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert result.per_class["dog"]["precision"] == 0.5
    assert result.per_class["cat"]["recall"] == 0.0


def test_missed_and_invented_boxes_stand_in_the_background(tmp_path: Path) -> None:
    result = measure(tmp_path, [(1, 0, A), (1, 0, B)], [seen(1, 0, A, 0.9), seen(1, 0, FAR, 0.9)], ["cat"])
    assert result.confusion_matrix == [[1, 1], [1, 0]]
    assert (result.metrics["precision"], result.metrics["recall"]) == (0.5, 0.5)


def test_a_wrong_class_with_a_higher_score_does_not_hide_the_right_one(tmp_path: Path) -> None:
    found = [seen(1, 1, A, 0.95), seen(1, 0, A, 0.9)]
    result = measure(tmp_path, [(1, 0, A), (2, 1, B)], found, ["cat", "dog"], score_threshold=0.5)
    assert result.confusion_matrix == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert result.operating_point.chosen_by == "caller"


def test_the_threshold_drops_the_false_alarms(tmp_path: Path) -> None:
    found = [seen(1, 0, A, 0.9), seen(1, 0, B, 0.7), *(seen(2, 0, FAR, 0.1 * n) for n in range(1, 4))]
    result = measure(tmp_path, [(1, 0, A), (1, 0, B)], found, ["cat"])
    assert 0.3 < result.operating_point.score_threshold <= 0.7
    assert result.operating_point.f1 == 1.0
    assert result.per_class["cat"]["predictions"] == 2


def test_empty_predictions_give_zeros_and_no_nan(tmp_path: Path) -> None:
    result = measure(tmp_path, [(1, 0, A)], [], ["cat"])
    assert (result.metrics["mAP@0.5"], result.metrics["precision"], result.metrics["recall"]) == (0.0, 0.0, 0.0)
    assert result.confusion_matrix == [[0, 1], [0, 0]]
    json.dumps(result.model_dump(), allow_nan=False)


@pytest.mark.parametrize("task", ["object_detection", "instance_segmentation"])
def test_a_split_without_ground_truth_says_none(tmp_path: Path, task: str) -> None:
    result = measure(tmp_path, [], [], ["cat"], task=task)
    assert set(result.metrics.values()) == {None}
    assert result.confusion_matrix == [[0, 0], [0, 0]]


def test_a_class_without_ground_truth_is_none_and_outside_the_means(tmp_path: Path) -> None:
    result = measure(tmp_path, [(1, 0, A)], [seen(1, 0, A, 0.9), seen(2, 1, B, 0.9)], ["cat", "ghost"])
    ghost = result.per_class["ghost"]
    assert {ghost[key] for key in ("ap_50", "ap_50_95", "precision", "recall", "f1")} == {None}
    assert (ghost["support"], ghost["predictions"]) == (0, 1)
    assert result.metrics["precision"] == 1.0
    assert list(result.pr_curves.classes) == ["cat"]


def test_a_prediction_inside_a_crowd_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    truth, predictions = write_split(
        tmp_path, [(1, 0, A), (1, 0, B)], [seen(1, 0, A, 0.9), seen(1, 0, B, 0.8)], ["cat"]
    )
    data = json.loads(truth.read_text())
    data["annotations"][1]["iscrowd"] = 1
    truth.write_text(json.dumps(data))
    result = evaluate(truth, predictions, task="object_detection")
    assert (result.boxes, result.confusion_matrix) == (1, [[1, 0], [0, 0]])


def test_category_ids_with_a_gap_are_refused(tmp_path: Path) -> None:
    truth, predictions = write_split(tmp_path, [], [], ["cat"])
    truth.write_text(truth.read_text().replace('"categories": [{"id": 0', '"categories": [{"id": 1'))
    with pytest.raises(ValueError, match=r"expected 0\.\.0"):
        evaluate(truth, predictions, task="object_detection")


def test_masks_have_their_own_numbers(tmp_path: Path) -> None:
    full, half = rle(A), rle([10.0, 10.0, 50.0, 20.0])
    objects: Boxes = [(1, 0, A), (2, 0, A)]
    found = [seen(1, 0, A, 0.9) | {"segmentation": full}, seen(2, 0, A, 0.9) | {"segmentation": half}]
    result = measure(tmp_path, objects, found, ["cat"], task="instance_segmentation")
    assert result.metrics["recall(B)"] == 1.0
    assert result.metrics["recall(M)"] == 0.5
    assert result.per_class["cat"]["recall(M)"] == 0.5
    assert result.metrics["mAP50(M)"] < result.metrics["mAP50(B)"]  # type: ignore[operator]
    assert result.confusion_matrix == [[1, 1], [1, 0]]


def rle(xywh: list[float]) -> dict[str, Any]:
    from pycocotools import mask  # type: ignore[import-untyped]

    encoded = mask.frPyObjects([rectangle(xywh)], 300, 400)[0]
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def random_case(seed: int) -> tuple[Boxes, list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    objects: Boxes = []
    found = []
    for image in (1, 2):
        for _ in range(12):
            xywh = [float(v) for v in (rng.integers(0, 250), rng.integers(0, 150), *rng.integers(10, 120, 2))]
            objects.append((image, int(rng.integers(0, 3)), xywh))
            moved = [float(v) for v in np.array(xywh) + rng.normal(0, 5, 4)]
            found.append(
                seen(image, int(rng.choice([objects[-1][1], 0])), [*moved[:2], *np.maximum(moved[2:], 4)], rng.random())
            )
    return objects, [f | {"segmentation": rle(f["bbox"])} for f in found]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("geometry", "suffix"), [("bbox", ""), ("segm", "(M)")])
def test_numbers_equal_pycocotools(tmp_path: Path, seed: int, geometry: str, suffix: str) -> None:
    from pycocotools.coco import COCO  # type: ignore[import-untyped]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

    objects, found = random_case(seed)
    truth, predictions = write_split(tmp_path, objects, found, ["a", "b", "c", "never"])
    ours = evaluate(truth, predictions, task="instance_segmentation").metrics
    if geometry == "segm":
        found = [{k: v for k, v in f.items() if k != "bbox"} for f in found]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        theirs = COCOeval(coco, coco.loadRes(found), geometry)
        theirs.evaluate(), theirs.accumulate(), theirs.summarize()
    keys = ["mAP@0.5:0.95", "mAP@0.5", "mAP@0.75", "mAP_small", "mAP_medium", "mAP_large"]
    expected = [None if value == -1 else pytest.approx(value, abs=1e-9) for value in theirs.stats[:6]]
    assert [ours[key + suffix] for key in keys] == expected
    assert ours["AR@100" + suffix] == pytest.approx(theirs.stats[8])


def test_the_matrix_agrees_with_the_table(tmp_path: Path) -> None:
    objects, found = random_case(7)
    result = measure(tmp_path, objects, found, ["a", "b", "c"])
    matrix = np.array(result.confusion_matrix)
    for k, name in enumerate(result.class_names):
        row = result.per_class[name]
        assert matrix[k].sum() == row["support"]
        assert matrix[:, k].sum() == row["predictions"]
        assert matrix[k, k] / matrix[k].sum() == pytest.approx(row["recall"])


def test_reports_import_no_deep_learning() -> None:
    modules = "evaluate", "samples", "render"
    code = "import sys;" + ";".join(f"import mmtrain.reports.{m}" for m in modules)
    code += ";print(sorted({'torch', 'mmcv', 'mmengine', 'mmdet', 'matplotlib.pyplot'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
