"""An exported package looks at one split: ``python -m mmtrain.predicting.evaluate_worker <work>``. Needs no torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import orjson

from converters.semantic import indexed_picture
from mmtrain.engine.evaluate_worker import without_nan
from mmtrain.engine.messages import MessageWriter, Progressed, Remark
from mmtrain.engine.order import PREDICTIONS, EvaluateOrder
from mmtrain.engine.serving import serve
from mmtrain.predicting.found import Box, Classes, Item, Seen
from mmtrain.predicting.options import Options
from mmtrain.predicting.package import PackagePredictor, open_package
from mmtrain.predicting.pixels import decoded
from mmtrain.predicting.rows import coco_rows
from mmtrain.reports.splits import mask_name
from trainer_sdk.tasks import Task

LEAST_SCORE = 0.001
"""An average precision wants the unsure ones too; most recipes' own."""
MOST_OBJECTS = 300


class Picture(NamedTuple):
    """An image of the split, and the objects that a top-down model is asked about."""

    id: int
    file_name: str
    boxes: tuple[Box, ...]
    """xyxy."""
    labels: tuple[int, ...]
    """Of the boxes, as the data have it."""


def run(order: EvaluateOrder, work_dir: Path, writer: MessageWriter) -> None:
    """Leaves what the model sees. Raises: JobError."""
    cv2.setNumThreads(1)
    options = Options(conf=LEAST_SCORE, max_det=MOST_OBJECTS, imgsz=order.source.size_wh, threads=order.threads)
    predictor, _, notes = open_package(order.source.path, options)
    for note in notes:
        writer.say(Remark(text=note))
    assert isinstance(order.files.images, Path)
    pictures = list(pictures_of(order.files.val))
    target = work_dir / PREDICTIONS
    rows: list[dict[str, Any]] = []
    for done, picture in enumerate(pictures, start=1):
        pixels = decoded((order.files.images / picture.file_name).read_bytes())
        if predictor.task is Task.SEMANTIC:
            target.mkdir(exist_ok=True)
            _save_mask(predictor, pixels, order.labels, target / mask_name(picture.id))
        else:
            rows += _rows(predictor, picture, pixels, order.labels)
        writer.say(Progressed(what="evaluating", done=done, total=len(pictures)))
    if predictor.task is not Task.SEMANTIC:
        sound, strange = without_nan(rows)
        if strange:
            writer.say(Remark(text=f"{strange} predictions are no numbers and are left out", level="WARNING"))
        target.with_suffix(".json").write_bytes(orjson.dumps(sound))


def pictures_of(annotations: Path) -> Iterator[Picture]:
    """Of a COCO file, with the boxes of objects that have a labelled point."""
    document = orjson.loads(annotations.read_bytes())
    asked: dict[int, list[dict[str, Any]]] = {}
    for one in document["annotations"]:
        if one.get("num_keypoints") and not one["iscrowd"]:
            asked.setdefault(one["image_id"], []).append(one)
    for image in document["images"]:
        objects = asked.get(image["id"], [])
        boxes = tuple((x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in objects))
        labels = tuple(int(one["category_id"]) for one in objects)
        yield Picture(int(image["id"]), image["file_name"], boxes, labels)


def _rows(predictor: PackagePredictor, picture: Picture, pixels: Any, labels: tuple[int, ...]) -> list[dict[str, Any]]:
    """COCO results with labels of the data; one pose for each box that is given to a top-down model."""
    if predictor.crops and not picture.boxes:
        return []
    sights = predictor.infer(predictor.prepare(pixels, picture.boxes))
    found = [one for sight in sights for one in sight.objects]
    if predictor.crops:
        found = [one._replace(label=label) for one, label in zip(found, picture.labels, strict=True)]
    else:
        found = [one._replace(label=labels[one.label]) for one in found]
    plain = Classes.of([str(number) for number in range(max((*labels, *picture.labels)) + 1)], None)
    item = Item(picture.id, picture.file_name, picture.file_name, picture.file_name)
    return coco_rows(Seen(item, objects=found), plain)


def _save_mask(predictor: PackagePredictor, pixels: Any, labels: tuple[int, ...], target: Path) -> None:
    (sight,) = predictor.infer(predictor.prepare(pixels, ()))
    assert sight.painted is not None
    indexed_picture(np.asarray(labels, dtype=np.uint8)[sight.painted.indices]).save(target)


if __name__ == "__main__":
    sys.exit(serve(run, EvaluateOrder, Path(sys.argv[1])))
