"""From the JSON of thousands of annotations to columns of shapes: the clean ones together, the others one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from converters.coco import Segmentation
from converters.columns import (
    Flags,
    Floats,
    RawGeometry,
    box_column,
    clean_boxes,
    number_column,
    polygon_columns,
    raw_geometries,
)
from converters.dice import DiceAnnotation, DiceImage
from converters.dice_to_coco import SHAPE_OF_TASK
from converters.findings import FindingCounter
from converters.json_pieces import chunks
from trainer_sdk.tasks import Task

WITH_MASKS = (Task.INSTANCE, Task.SEMANTIC)
EMPTY_JSON_BYTES = len("null")
"""``null``, ``[]``, ``{}`` and ``[[]]`` say nothing."""


@dataclass(slots=True)
class Seen:
    """What the annotations have to offer, whatever the task uses of it; and how their boxes lie."""

    annotations: int = 0
    boxes: int = 0
    masks: int = 0
    keypoints: int = 0
    boxes_leaving: int = 0
    """Boxes that, read as xywh, reach beyond the right or lower border."""
    boxes_as_corners: int = 0
    """Boxes that, read as xyxy, are inside the image."""

    @property
    def looks_like_corners(self) -> bool:
        """xywh boxes all but never leave their image, corners read as xywh do in half of the cases or more.

        Both thresholds are far from either: a set whose boxes were exported as xyxy has nearly all of them valid as
        corners and, unless its objects huddle in the left upper quarter, a quarter leaving.
        """
        enough = self.boxes >= 10
        return enough and self.boxes_leaving > self.boxes / 4 and self.boxes_as_corners > self.boxes * 0.95


class ShapeColumns(NamedTuple):
    """Rows belong to the annotations given; where ``kept`` is false the others mean nothing."""

    kept: Flags
    bbox_xywh: Floats
    area: Floats
    iscrowd: Flags
    segmentations: dict[int, Segmentation]
    """Row -> the repaired form; a row without an entry keeps its own."""
    keypoints: Floats


def shape_columns(
    task: Task,
    annotations: Sequence[DiceAnnotation],
    images: Sequence[DiceImage],
    keypoint_count: int,
    findings: FindingCounter,
    seen: Seen,
) -> Iterator[tuple[slice, ShapeColumns]]:
    """The shapes of all annotations in runs; ``images[i]`` is the image of ``annotations[i]``."""
    for start, end in chunks([annotation.json for annotation in annotations]):
        run = slice(start, end)
        yield run, _shapes(task, annotations[run], images[run], keypoint_count, findings, seen)


def _shapes(
    task: Task,
    annotations: Sequence[DiceAnnotation],
    images: Sequence[DiceImage],
    keypoint_count: int,
    findings: FindingCounter,
    seen: Seen,
) -> ShapeColumns:
    raws = raw_geometries(annotations)
    sizes = np.array([(image.width or np.inf, image.height or np.inf) for image in images])
    boxes_xywh = box_column([raw.bbox for raw in raws])
    plain = np.array([raw.bbox_format in (None, "xywh") for raw in raws])
    _look(raws, np.where(plain[:, None], boxes_xywh, np.nan), sizes, seen)
    clean = clean_boxes(boxes_xywh, sizes) & plain
    measured = boxes_xywh[:, 2] * boxes_xywh[:, 3]
    box_areas = measured
    crossing: Flags = np.zeros(len(raws), dtype=bool)
    if task in WITH_MASKS:
        polygons = polygon_columns([raw.segmentation for raw in raws], sizes)
        clean &= polygons.clean
        measured = np.minimum(polygons.area, box_areas)  # what lies outside the image is no area of the object
        crossing = polygons.crossing
    elif task is Task.POSE:
        clean[:] = False  # points are looked at one by one
    columns = ShapeColumns(
        kept=clean,
        bbox_xywh=boxes_xywh,
        area=_areas(raws, box_areas, measured),
        iscrowd=np.array([bool(raw.iscrowd) for raw in raws]),
        segmentations={},
        keypoints=np.zeros((len(raws), keypoint_count, 3)),
    )
    for row in np.flatnonzero(~clean).tolist():
        _fill(columns, row, task, annotations[row], images[row], findings)
    _tell_crossing(crossing & columns.kept, annotations, images, findings)
    return columns


def _look(raws: Sequence[RawGeometry], boxes_xywh: Floats, sizes: Floats, seen: Seen) -> None:
    corners = boxes_xywh[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        leaving = (boxes_xywh[:, :2] + corners > sizes + 1).any(axis=1)
        as_corners = ((corners > boxes_xywh[:, :2]) & (corners <= sizes + 1)).all(axis=1)
    seen.annotations += len(raws)
    seen.boxes += int(np.isfinite(boxes_xywh).all(axis=1).sum())
    seen.masks += sum(memoryview(raw.segmentation).nbytes > EMPTY_JSON_BYTES for raw in raws)
    seen.keypoints += sum(memoryview(raw.keypoints).nbytes > EMPTY_JSON_BYTES for raw in raws)
    seen.boxes_leaving += int(leaving.sum())
    seen.boxes_as_corners += int(as_corners.sum())


def _tell_crossing(
    crossing: Flags, annotations: Sequence[DiceAnnotation], images: Sequence[DiceImage], findings: FindingCounter
) -> None:
    for row in np.flatnonzero(crossing).tolist():
        findings.add("DS046", _where(annotations[row], images[row]), file=images[row].file_name)


def _areas(raws: Sequence[RawGeometry], box_areas: Floats, measured: Floats) -> Floats:
    """The area in the file, since COCO's size classes rest on it, unless it is nonsense or older than the box."""
    given = number_column([raw.area for raw in raws])
    with np.errstate(invalid="ignore"):
        return np.where((given > 0) & (given <= box_areas), given, measured)


def _fill(
    columns: ShapeColumns, row: int, task: Task, annotation: DiceAnnotation, image: DiceImage, findings: FindingCounter
) -> None:
    shape = SHAPE_OF_TASK[task](annotation.geometry, image, _where(annotation, image), findings)
    columns.kept[row] = shape is not None
    if shape is None:
        return
    columns.bbox_xywh[row] = shape.bbox_xywh
    columns.area[row] = shape.area
    if shape.segmentation is not None:
        columns.segmentations[row] = shape.segmentation
    columns.iscrowd[row] |= shape.ignored
    if shape.keypoints:
        columns.kept[row] = len(shape.keypoints) == columns.keypoints.shape[1]
        if columns.kept[row]:
            columns.keypoints[row] = shape.keypoints
        else:
            found = f"{_where(annotation, image)}: {len(shape.keypoints)} instead of {columns.keypoints.shape[1]}"
            findings.add("DS060", found, file=image.file_name)


def _where(annotation: DiceAnnotation, image: DiceImage) -> str:
    return f"{image.file_name}: annotation {annotation.id}"
