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
    """Objects with predictions near them, some of another class; scores of one digit, so that many are equal."""
    rng = np.random.default_rng(seed)
    objects: Boxes = []
    found = []
    for image in (1, 2, 3):
        for _ in range(12):
            xywh = [float(v) for v in (rng.integers(0, 250), rng.integers(0, 150), *rng.integers(10, 120, 2))]
            objects.append((image, int(rng.integers(0, 3)), xywh))
            moved = [float(v) for v in np.array(xywh) + rng.normal(0, 5, 4)]
            box, kind = [*moved[:2], *np.maximum(moved[2:], 4)], int(rng.choice([objects[-1][1], 0]))
            found.append(seen(image, kind, box, round(float(rng.random()), 1)))
    found.append(seen(5, 0, A, 0.5))  # an image without objects; the fourth has neither
    return objects, [f | {"segmentation": rle(f["bbox"])} for f in found]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("geometry", "suffix"), [("bbox", ""), ("segm", "(M)")])
def test_numbers_equal_pycocotools(tmp_path: Path, seed: int, geometry: str, suffix: str) -> None:
    """Crowds, empty images and equal scores among them."""
    from pycocotools.coco import COCO  # type: ignore[import-untyped]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

    objects, found = random_case(seed)
    truth, predictions = write_split(tmp_path, objects, found, ["a", "b", "c", "never"], images=5)
    data = json.loads(truth.read_text())
    for crowd in data["annotations"][:: seed + 3]:
        crowd |= {"iscrowd": 1, "segmentation": rle(crowd["bbox"])}
    truth.write_text(json.dumps(data))
    result = evaluate(truth, predictions, task="instance_segmentation")
    if geometry == "segm":
        found = [{k: v for k, v in f.items() if k != "bbox"} for f in found]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        theirs = COCOeval(coco, coco.loadRes(found), geometry)
        theirs.evaluate(), theirs.accumulate(), theirs.summarize()
    keys = ["mAP@0.5:0.95", "mAP@0.5", "mAP@0.75", "mAP_small", "mAP_medium", "mAP_large", "AR@1", "AR@10", "AR@100"]
    expected = [None if value == -1 else pytest.approx(value, abs=1e-6) for value in theirs.stats[:9]]
    assert [result.metrics[key + suffix] for key in keys] == expected
    for k, name in enumerate(("a", "b", "c")):
        row = {
            key.removesuffix("(M)"): v for key, v in result.per_class[name].items() if key.endswith("(M)") or not suffix
        }
        assert row["ap_50_95"] == pytest.approx(theirs.eval["precision"][:, :, k, 0, -1].mean(), abs=1e-6)
        assert row["ar_10"] == pytest.approx(theirs.eval["recall"][:, k, 0, 1].mean(), abs=1e-6)


def test_the_matrix_agrees_with_the_table(tmp_path: Path) -> None:
    objects, found = random_case(7)
    truth, predictions = write_split(tmp_path, objects, found, ["a", "b", "c"], images=5)
    result = evaluate(truth, predictions, task="object_detection")
    matrix = np.array(result.confusion_matrix)
    for k, name in enumerate(result.class_names):
        row = result.per_class[name]
        assert matrix[k].sum() == row["support"]
        assert matrix[:, k].sum() == row["predictions"]
        assert matrix[k, k] / matrix[k].sum() == pytest.approx(row["recall"])


def shifted(xywh: list[float], right: float) -> list[float]:
    return [xywh[0] + right, *xywh[1:]]


def test_each_kind_of_mistake_is_told_apart(tmp_path: Path) -> None:
    """A is 50 wide: 30 to the right IoU is 20 / 80 = 0.25, 48 to the right 2 / 98 = 0.02."""
    found = [
        seen(1, 0, A, 0.9), seen(1, 0, A, 0.8),  # found, and again
        seen(2, 0, shifted(A, 30), 0.9),  # off: the object is not missed, its box is wrong
        seen(3, 1, A, 0.9),  # another class in its place
        seen(4, 1, shifted(A, 30), 0.9),  # another class, and off: here the object is missed
        seen(5, 0, shifted(A, 48), 0.9),  # on nothing, so here too
        seen(6, 0, A, 0.2),  # below the threshold
    ]  # fmt: skip
    truth, predictions = write_split(tmp_path, [(i, 0, A) for i in range(1, 7)], found, ["cat", "dog"], images=7)
    errors = evaluate(truth, predictions, task="object_detection", score_threshold=0.5).errors
    assert errors is not None
    expected = {"duplicate": 1, "localisation": 1, "classification": 1, "both": 1, "background": 1, "missed": 3}
    assert errors.counts == expected
    assert errors.per_class["dog"] == dict.fromkeys(expected, 0) | {"classification": 1, "both": 1}
    assert errors.shares()["missed"] == pytest.approx(3 / 8)
    assert (errors.foreground_iou, errors.background_iou, errors.score_threshold) == (0.5, 0.1, 0.5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.8])
def test_every_wrong_prediction_has_one_kind(tmp_path: Path, seed: int, threshold: float) -> None:
    objects, found = random_case(seed)
    truth, predictions = write_split(tmp_path, objects, found, ["a", "b", "c"], images=5)
    result = evaluate(truth, predictions, task="object_detection", score_threshold=threshold)
    assert result.errors is not None
    for name, kinds in result.errors.per_class.items():
        row = result.per_class[name]
        correct = round(float(row["recall"] or 0) * float(row["support"] or 0))
        assert sum(kinds.values()) - kinds["missed"] == float(row["predictions"] or 0) - correct
        assert kinds["missed"] <= float(row["support"] or 0) - correct
    assert sum(result.errors.counts.values()) > 0


def test_without_mistakes_no_kind_has_a_share(tmp_path: Path) -> None:
    errors = measure(tmp_path, [(1, 0, A)], [seen(1, 0, A, 0.9)], ["cat"]).errors
    assert errors is not None
    assert set(errors.counts.values()) == {0}
    assert set(errors.shares().values()) == {None}


def test_each_class_has_a_threshold_of_its_own(tmp_path: Path) -> None:
    found = [seen(1, 0, A, 0.9), seen(1, 0, FAR, 0.8), seen(1, 1, B, 0.3), seen(2, 1, FAR, 0.1)]
    rows = measure(tmp_path, [(1, 0, A), (1, 1, B)], found, ["cat", "dog", "ghost"]).per_class
    assert 0.8 < float(rows["cat"]["best_threshold"] or 0) <= 0.9
    assert 0.1 < float(rows["dog"]["best_threshold"] or 0) <= 0.3
    assert (rows["cat"]["best_f1"], rows["dog"]["best_f1"]) == (1.0, 1.0)
    assert (rows["ghost"]["best_threshold"], rows["ghost"]["best_f1"]) == (None, None)


def test_recall_counts_only_the_first_predictions_of_an_image(tmp_path: Path) -> None:
    found = [seen(1, 0, A, 0.9), seen(1, 0, B, 0.8)]
    result = measure(tmp_path, [(1, 0, A), (1, 0, B)], found, ["cat"])
    assert [result.metrics[f"AR@{most}"] for most in (1, 10, 100)] == pytest.approx([0.5, 1.0, 1.0])
    assert result.per_class["cat"]["ar_1"] == pytest.approx(0.5)


def test_the_worst_and_the_best_image_are_named(tmp_path: Path) -> None:
    found = [seen(1, 0, A, 0.9), seen(2, 0, FAR, 0.9)]
    truth, predictions = write_split(tmp_path, [(1, 0, A), (2, 0, A), (3, 0, A)], found, ["cat"], images=4)
    ranking = evaluate(truth, predictions, task="object_detection").ranking
    assert ranking is not None
    assert [(image.file_name, image.mistakes) for image in ranking.worst] == [("2.jpg", 2), ("3.jpg", 1)]
    assert [(image.file_name, image.score) for image in ranking.best] == [("1.jpg", 1.0)]
    assert ranking.worst[0].reason == "F1 0.00: 0 of 1 found, 1 wrong"


def test_reports_import_no_deep_learning() -> None:
    modules = "evaluate", "semantic", "pose", "samples", "render"
    code = "import sys;" + ";".join(f"import mmtrain.reports.{m}" for m in modules)
    code += ";print(sorted({'torch', 'mmcv', 'mmengine', 'mmdet', 'matplotlib.pyplot'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
