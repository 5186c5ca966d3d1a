"""One split of each task, from the files that a job leaves to numbers and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from mmtrain.datasets.pictures import PicturesHere
from mmtrain.reports.splits import PosePoints, SplitFiles, draw_split, evaluate_split, mask_name
from trainer_sdk.tasks import Task

BOX = [10.0, 10.0, 20.0, 20.0]
POLYGON = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]


def split_of(task: Task, folder: Path, **found: Any) -> SplitFiles:
    """Two images; the first holds one object that is found."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 60, "height": 40} for i in (1, 2)]
    for image in images:
        cv2.imwrite(str(folder / str(image["file_name"])), np.full((40, 60, 3), 128, np.uint8))
        image["seg_file_name"] = f"masks/{mask_name(int(str(image['id'])))}"
    objects = [{"id": 1, "image_id": 1, "category_id": 0, "bbox": BOX, "area": 400, "iscrowd": 0,
                "segmentation": [POLYGON], "keypoints": [15, 15, 2, 25, 25, 1], "num_keypoints": 2}]  # fmt: skip
    categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "background"}]
    truth = {"images": images, "categories": categories, "annotations": objects if task is not Task.SEMANTIC else []}
    (folder / "val.json").write_text(json.dumps(truth))
    rows = [{"image_id": 1, "category_id": 0, "bbox": BOX, "score": 0.9} | found]
    (folder / "predictions_val.json").write_text(json.dumps(rows))
    return SplitFiles(task, folder / "val.json", folder / "predictions_val.json")


def test_boxes(tmp_path: Path) -> None:
    split = split_of(Task.DETECTION, tmp_path)
    evaluation = evaluate_split(split, 0.4)
    assert evaluation.metrics["mAP@0.5:0.95"] == pytest.approx(1.0)
    assert evaluation.operating_point is not None
    assert evaluation.operating_point.score_threshold == 0.4
    samples = draw_split(split, PicturesHere(tmp_path), evaluation)
    assert {(sample.file_name, sample.mistakes) for sample in samples} == {("1.png", 0), ("2.png", 0)}


def test_pixels(tmp_path: Path) -> None:
    boxes = split_of(Task.SEMANTIC, tmp_path)
    split = SplitFiles(Task.SEMANTIC, boxes.annotations, tmp_path / "predictions_val")
    for folder in (tmp_path / "masks", split.predictions):
        folder.mkdir()
        for image_id in (1, 2):
            Image.fromarray(np.full((40, 60), image_id - 1, np.uint8)).save(folder / mask_name(image_id))
    evaluation = evaluate_split(split, 0.4)
    assert (evaluation.metrics["mIoU"], evaluation.operating_point) == (1.0, None)
    assert [image.file_name for image in evaluation.ranking.worst] == ["1.png"]  # type: ignore[union-attr]
    assert len(draw_split(split, PicturesHere(tmp_path), evaluation)) == 2
    (split.predictions / mask_name(2)).unlink()
    with pytest.raises(ValueError, match="no predicted mask of image 2"):
        evaluate_split(split)


def test_points(tmp_path: Path) -> None:
    split = split_of(Task.POSE, tmp_path, keypoints=[15, 15, 0.4, 25, 25, 0.3])
    points = PosePoints(names=["left", "right"], sigmas=[0.1, 0.1], flip_pairs=[(0, 1)], limbs=[(0, 1)])
    split = SplitFiles(split.task, split.annotations, split.predictions, points)
    evaluation = evaluate_split(split)
    assert evaluation.metrics["OKS-AP"] == pytest.approx(1.0)
    assert [*evaluation.keypoints] == ["left", "right"]
    sample = draw_split(split, PicturesHere(tmp_path), evaluation)[0]
    assert sample.file_name == "1.png"
    assert sample.truth_jpeg != sample.prediction_jpeg  # the hidden point is hollow only in the truth
