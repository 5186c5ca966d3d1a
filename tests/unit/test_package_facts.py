"""What is read of an exported package before its runtime is: its facts, or why it is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from mmtrain.engine.order import ModelSource
from mmtrain.predicting.evaluate_worker import Picture, pictures_of
from mmtrain.predicting.package_facts import package_facts
from trainer_sdk.errors import CheckpointError, ConfigError
from trainer_sdk.tasks import Task

METADATA: dict[str, Any] = {
    "task_type": "object_detection",
    "model_name": "rtmdet-tiny",
    "class_names": ["a", "b"],
    "class_ids": [3, None],
    "preprocessing": {"size_wh": [64, 32]},
    "export_info": {"trained_on": {"annotations_sha256": "ab"}},
}


def source(folder: Path, metadata: Any = METADATA, **asked: Any) -> ModelSource:
    (folder / "metadata.json").write_bytes(orjson.dumps(metadata))
    return ModelSource(path=folder, name="export_1.zip", device="cpu", **asked)


def test_the_facts(tmp_path: Path) -> None:
    facts = package_facts(source(tmp_path, task=Task.DETECTION, model_name="rtmdet_tiny"))
    assert (facts.recipe, facts.task, facts.class_names) == ("rtmdet-tiny", Task.DETECTION, ("a", "b"))
    assert (facts.class_ids, facts.size_wh, facts.keypoint_names) == ((3, 1), (64, 32), None)
    assert (facts.primary_metric, facts.trained_on_sha256) == ("coco/bbox_mAP", "ab")


@pytest.mark.parametrize("metadata", [[], {}, {**METADATA, "task_type": "x"}, {**METADATA, "preprocessing": {}}])
def test_what_is_no_package(tmp_path: Path, metadata: Any) -> None:
    with pytest.raises(CheckpointError, match=r"export_1\.zip is no exported package of this trainer"):
        package_facts(source(tmp_path, metadata))


def test_a_package_says_what_it_is_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names its own"):
        package_facts(source(tmp_path, class_names=("x", "y")))
    with pytest.raises(ConfigError, match="TASK_TYPE asks for another"):
        package_facts(source(tmp_path, task=Task.POSE))
    with pytest.raises(CheckpointError, match="MODEL_NAME asks for rtmdet-s"):
        package_facts(source(tmp_path, model_name="rtmdet-s"))


def test_objects_with_labelled_points_are_asked_about(tmp_path: Path) -> None:
    objects = [
        {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 0, "num_keypoints": 1},
        {"image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4], "iscrowd": 0, "num_keypoints": 0},
        {"image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4], "iscrowd": 1, "num_keypoints": 1},
    ]
    document = {"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}], "annotations": objects}
    (tmp_path / "val.json").write_text(json.dumps(document))
    assert list(pictures_of(tmp_path / "val.json")) == [
        Picture(1, "a.png", ((1, 2, 4, 6),), (2,)),
        Picture(2, "b.png", (), ()),
    ]
