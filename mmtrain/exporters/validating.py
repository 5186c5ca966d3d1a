"""Both models on validation images: average precision of boxes, masks or poses, or the mean IoU of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import orjson
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from mmtrain.exporters.certificate import Scores, Validation
from mmtrain.exporters.progress import Say, silent
from mmtrain.exporters.runtime.predict_standalone import Found
from mmtrain.reports.coco_metrics import Truth, coco_tables, read_truth
from trainer_sdk.errors import DatasetError
from trainer_sdk.tasks import Task

Array = NDArray[Any]
Sees = Callable[..., Found]
"""An image (H, W, 3) uint8 BGR, and boxes= for models that see crops."""
POINTS = 100.0


class Images(NamedTuple):
    """Where validation images and their truth lie, as a job's folder has them."""

    root: Path
    annotations: Path
    """COCO's form; for semantic segmentation the list of images with their masks."""
    masks: Path | None = None
    sigmas: Sequence[float] = ()

    def names(self) -> list[str]:
        """Of all images, below `root`."""
        document = orjson.loads(self.annotations.read_bytes())
        if "data_list" in document:
            return [row["img_path"] for row in document["data_list"]]
        return [image["file_name"] for image in document["images"]]


def measured(
    task: Task, images: Images, most: int, class_names: Sequence[str], sees: Sequence[Sees], *, say: Say = silent
) -> Validation:
    """The first `most` images by two models, PyTorch's first.

    Raises:
        DatasetError: there are no images, or one cannot be read.
    """
    if task is Task.SEMANTIC:
        return _semantic(images, most, class_names, sees, say)
    truth = read_truth(images.annotations)
    _check_classes(truth.class_names, class_names)
    if not truth.images:
        raise DatasetError(f"{images.annotations} has no validation images")
    kept = Truth(truth.images[:most], truth.class_names, truth.annotations)
    ids = {image["id"] for image in kept.images}
    kept = kept._replace(annotations=[one for one in truth.annotations if one["image_id"] in ids])
    rows: list[list[dict[str, Any]]] = [[] for _ in sees]
    for done, image in enumerate(kept.images, start=1):
        pixels = _read(images.root / image["file_name"])
        boxes = _boxes(kept, image["id"]) if task is Task.POSE else None
        for number, see in enumerate(sees):
            found = see(pixels, boxes=boxes) if task is Task.POSE else see(pixels)
            rows[number].extend(_rows(found, image["id"]))
        say("comparing validation images", done, len(kept.images))
    geometry = {Task.DETECTION: "bbox", Task.INSTANCE: "segm", Task.POSE: "keypoints"}[task]
    scores = [_scores(kept, found, geometry, images.sigmas) for found in rows]
    metric = {"bbox": "mAP", "segm": "mask mAP", "keypoints": "OKS AP"}[geometry]
    return Validation(images=len(kept.images), metric=metric, pytorch=scores[0], exported=scores[1])


def _check_classes(of_data: Sequence[str], of_model: Sequence[str]) -> None:
    if list(of_data) != list(of_model):
        raise DatasetError(
            f"the data set's classes are {', '.join(of_data)}, the model's are {', '.join(of_model)}",
            hint="name the data set that the model was trained on, or one with the same classes in the same order",
        )


def _boxes(truth: Truth, image_id: int) -> Array:
    boxes = [one["bbox"] for one in truth.annotations if one["image_id"] == image_id and one.get("num_keypoints", 1)]
    xywh = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    xywh[:, 2:] += xywh[:, :2]
    return xywh


def _rows(found: Found, image_id: int) -> Iterator[dict[str, Any]]:
    for number, (box, score, label) in enumerate(zip(found["boxes"], found["scores"], found["labels"], strict=True)):
        left, top, right, bottom = (float(side) for side in box)
        row: dict[str, Any] = {
            "image_id": image_id, "category_id": int(label), "score": float(score),
            "bbox": [left, top, right - left, bottom - top],
        }  # fmt: skip
        if "masks" in found:
            row["segmentation"] = coco_mask.encode(np.asfortranarray(found["masks"][number].astype(np.uint8)))
        if "keypoints" in found:
            row["keypoints"] = [float(value) for value in found["keypoints"][number].ravel()]
        yield row


def _scores(truth: Truth, rows: list[dict[str, Any]], geometry: Any, sigmas: Sequence[float]) -> Scores:
    if not rows:
        return Scores(overall=0.0, per_class=dict.fromkeys(truth.class_names, 0.0))
    tables = coco_tables(truth, rows, geometry, sigmas)
    per_class = {}
    for number, name in enumerate(truth.class_names):
        precision = tables.precision[:, :, number, 0, -1]
        existing = precision[precision > -1]
        per_class[name] = round(POINTS * float(existing.mean()), 3) if len(existing) else None
    existing = tables.precision[..., 0, -1]
    existing = existing[existing > -1]
    return Scores(overall=round(POINTS * float(existing.mean()), 3) if len(existing) else None, per_class=per_class)


def _semantic(images: Images, most: int, class_names: Sequence[str], sees: Sequence[Sees], say: Say) -> Validation:
    document = orjson.loads(images.annotations.read_bytes())
    _check_classes(document["metainfo"]["classes"], class_names)
    listed = document["data_list"][:most]
    if not listed:
        raise DatasetError(f"{images.annotations} has no validation images")
    classes = len(class_names)
    counts = [np.zeros((classes, classes), dtype=np.int64) for _ in sees]
    for done, row in enumerate(listed, start=1):
        pixels = _read(images.root / row["img_path"])
        folder = images.masks or images.annotations.parent
        truth = _indices(folder / row["seg_map_path"])
        known = truth < classes
        for number, see in enumerate(sees):
            cells = classes * truth[known].astype(np.int64) + see(pixels)["class_map"][known]
            counts[number] += np.bincount(cells, minlength=classes**2).reshape(classes, classes)
        say("comparing validation images", done, len(listed))
    scores = [_ious(count, class_names) for count in counts]
    return Validation(images=len(listed), metric="mIoU", pytorch=scores[0], exported=scores[1])


def _ious(count: Array, class_names: Sequence[str]) -> Scores:
    """Of a matrix of truth by prediction, in pixels."""
    shared = np.diag(count).astype(np.float64)
    union = count.sum(axis=0) + count.sum(axis=1) - shared
    ious = {
        name: round(POINTS * float(shared[k] / union[k]), 3) if union[k] else None for k, name in enumerate(class_names)
    }
    known = [value for value in ious.values() if value is not None]
    return Scores(overall=round(sum(known) / len(known), 3) if known else None, per_class=ious)


def _read(path: Path) -> Array:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise DatasetError(f"the validation image {path} cannot be read")
    return pixels


def _indices(path: Path) -> Array:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture)
