"""What the matrix knows of each task: one row, with its drawn data, and what predictions must look like."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from torch.nn import Module

from converters import Conversion, write_conversion
from mmtrain.config.files import DatasetFiles
from mmtrain.datasets.fetch import fetch
from mmtrain.datasets.inspect import Findings
from mmtrain.datasets.pose_shapes import write_arrows
from mmtrain.datasets.preflight import preflight
from mmtrain.datasets.shapes import write_shapes
from mmtrain.engine.infer import predict, predict_masks
from mmtrain.plan import TrainPlan
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task

SIZE = (96, 72)
POSITIVES, NEGATIVES = 2, 2
"""Training pictures with objects, which come first, and without."""
VAL_IDS = {5, 6}


class Drawn(NamedTuple):
    """A data set as the plan and the configuration want it."""

    files: DatasetFiles
    conversion: Conversion
    findings: Findings


class Row(NamedTuple):
    """One task."""

    draw: Callable[[Path], Path]
    """Writes a data set in DICE into a folder, four pictures for training and two for validation."""
    imgsz: tuple[int, int]
    negatives: bool
    """The second half of the training pictures has no objects."""
    check: Callable[[Any, TrainPlan], None]
    """Looks at the predictions for the validation pictures."""
    predict: Callable[[Runner, Module, Config, Path], Any] = lambda runner, model, loader, folder: predict(
        runner, model, loader, report=lambda done, total: None
    )
    """Of those pictures; the folder is there to write to."""


def draw_boxes(folder: Path) -> Path:
    return _without_half_of_the_objects(write_shapes(folder, counts=_counts(), size=SIZE))


def draw_instances(folder: Path) -> Path:
    return _without_half_of_the_objects(write_shapes(folder, counts=_counts(), size=SIZE, task="instance_segmentation"))


def draw_poses(folder: Path) -> Path:
    return write_arrows(folder, counts=_counts(), size=SIZE, most=1)


def draw_semantic(folder: Path) -> Path:
    return write_shapes(folder, counts=_counts(), size=SIZE, task="semantic_segmentation", mask_files=True)


def _counts() -> dict[str, int]:
    return {"train": POSITIVES + NEGATIVES, "val": len(VAL_IDS)}


def _without_half_of_the_objects(folder: Path) -> Path:
    """Pictures without objects are there to be learnt too."""
    [annotations] = folder.glob("annotations*.json")
    document = json.loads(annotations.read_bytes())
    for image in document["images"][POSITIVES : POSITIVES + NEGATIVES]:
        image["annotations"] = []
    annotations.write_text(json.dumps(document))
    return folder


def check_boxes(rows: list[dict[str, Any]], plan: TrainPlan) -> None:
    assert {row["image_id"] for row in rows} == VAL_IDS
    assert {row["category_id"] for row in rows} <= set(range(len(plan.class_names)))
    assert all(math.isfinite(number) for row in rows for number in (*row["bbox"], row["score"]))


def check_instances(rows: list[dict[str, Any]], plan: TrainPlan) -> None:
    check_boxes(rows, plan)
    assert all(row["segmentation"]["size"] == [SIZE[1], SIZE[0]] for row in rows)


def check_poses(rows: list[dict[str, Any]], plan: TrainPlan) -> None:
    check_boxes(rows, plan)
    assert plan.keypoints is not None
    assert all(len(row["keypoints"]) == 3 * len(plan.keypoints.names) for row in rows)
    assert all(math.isfinite(number) for row in rows for number in row["keypoints"])


def class_maps(runner: Runner, model: Module, loader: Config, folder: Path) -> dict[int, Image.Image]:
    """Predicted ones, by image id."""
    predict_masks(runner, model, loader, folder, report=lambda done, total: None)
    return {int(path.stem): Image.open(path) for path in folder.iterdir()}


def check_semantic(maps: dict[int, Image.Image], plan: TrainPlan) -> None:
    assert set(maps) == VAL_IDS
    assert all((picture.mode, picture.size) == ("P", SIZE) for picture in maps.values())
    assert all(np.asarray(picture).max() < len(plan.class_names) for picture in maps.values())


ROWS: dict[Task, Row] = {
    Task.DETECTION: Row(draw_boxes, (96, 64), True, check_boxes),
    Task.INSTANCE: Row(draw_instances, (96, 64), True, check_instances),
    Task.SEMANTIC: Row(draw_semantic, (96, 64), False, check_semantic, class_maps),
    Task.POSE: Row(draw_poses, (96, 64), False, check_poses),
}


def prepare(folder: Path, task: Task) -> Drawn:
    """Draws, fetches, inspects and converts, by the code that jobs use."""
    source = ROWS[task].draw(folder / "source")
    fetched = fetch(DatasetRef(id="d", path=str(source)), task, Settings.from_env({}), lambda done, total: None)
    conversion, findings = preflight(fetched, task, lambda done, total: None)
    findings.raise_if_blocked()
    coco = folder / "coco"
    write_conversion(conversion, coco, fetched.mask_path)
    files = DatasetFiles(images=fetched.root, train=coco / "train.json", val=coco / "val.json", test=None)
    return Drawn(files, conversion, findings)
