"""All objects of the images that are used, in columns, without those that cannot be used or say the same twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.coco import ObjectTable, Segmentation
from converters.dice import DiceAnnotation, DiceImage
from converters.findings import FindingCounter
from converters.shape_columns import WITH_MASKS, Seen, ShapeColumns, shape_columns
from converters.used import UsedImage
from trainer_sdk.tasks import Task


class Objects(NamedTuple):
    """Row i of ``table`` has id i + 1 and came from ``sources[i]``."""

    table: ObjectTable
    sources: list[DiceAnnotation]
    segmentations: dict[int, Segmentation]
    """Annotation id -> repaired form."""
    seen: Seen

    def rows_of(self, image_ids: Sequence[int]) -> NDArray[np.intp]:
        """The rows of these images."""
        return np.flatnonzero(np.isin(self.table.image_id, image_ids))


def read_objects(
    used: Sequence[UsedImage], labels: NDArray[np.int32], task: Task, keypoint_count: int, findings: FindingCounter
) -> Objects:
    """The objects of all images, in file order.

    Args:
        labels: class index of every annotation of the data set; below 0: no object.
    """
    sources, images, image_ids, categories = _labelled_rows(used, labels, task)
    seen = Seen()
    runs: list[ShapeColumns] = []
    segmentations: dict[int, Segmentation] = {}
    for run, columns in shape_columns(task, sources, images, keypoint_count, findings, seen):
        runs.append(columns)
        segmentations |= {run.start + row: found for row, found in columns.segmentations.items()}
    table = _table(image_ids, categories, runs, keypoint_count)
    kept = np.concatenate([run.kept for run in runs]) if runs else np.zeros(0, dtype=bool)
    kept &= ~_repeated(table, sources, task, kept, findings)
    rows = np.flatnonzero(kept)
    ids = np.arange(1, len(rows) + 1)
    return Objects(
        table=table.take(rows)._replace(id=ids),
        sources=[sources[row] for row in rows],
        segmentations={
            i: segmentations[row] for i, row in zip(ids.tolist(), rows.tolist(), strict=True) if row in segmentations
        },
        seen=seen,
    )


def _labelled_rows(
    used: Sequence[UsedImage], labels: NDArray[np.int32], task: Task
) -> tuple[list[DiceAnnotation], list[DiceImage], NDArray[np.int32], NDArray[np.int32]]:
    found = np.concatenate([labels[one.annotations] for one in used]) if used else np.zeros(0, dtype=np.int32)
    counts = [len(one.image.annotations) for one in used]
    number = np.repeat(np.arange(len(used)), counts)
    # A mask file says everything about its image, so what else stands there is not drawn and need not be usable.
    wanted = [task is not Task.SEMANTIC or one.image.mask_file is None for one in used]
    rows = np.flatnonzero((found >= 0) & np.repeat(np.array(wanted, dtype=bool), counts))
    annotations = list(chain.from_iterable(one.image.annotations for one in used))
    return (
        [annotations[row] for row in rows],
        [used[i].image for i in number[rows]],
        (number[rows] + 1).astype(np.int32),
        found[rows],
    )


def _table(
    image_ids: NDArray[np.int32], categories: NDArray[np.int32], runs: Sequence[ShapeColumns], keypoint_count: int
) -> ObjectTable:
    def column(name: str, *shape: int) -> NDArray[np.float64]:
        return np.concatenate([np.zeros((0, *shape)), *(getattr(run, name) for run in runs)])

    return ObjectTable(
        id=np.zeros(len(image_ids), dtype=np.int64),
        image_id=image_ids,
        category_id=categories,
        bbox_xywh=column("bbox_xywh", 4),
        area=column("area"),
        iscrowd=column("iscrowd").astype(bool),
        keypoints=column("keypoints", keypoint_count, 3),
    )


def _repeated(
    table: ObjectTable, sources: Sequence[DiceAnnotation], task: Task, kept: NDArray[np.bool_], findings: FindingCounter
) -> NDArray[np.bool_]:
    """Rows that repeat an earlier one: image, class and box, and mask or points where the task has them."""
    repeated = np.zeros(len(kept), dtype=bool)
    order = np.lexsort((*table.bbox_xywh.T, table.category_id, table.image_id))  # stable: the first stays first
    order = order[kept[order]]
    boxes, images, categories = table.bbox_xywh[order], table.image_id[order], table.category_id[order]
    equal = (boxes[1:] == boxes[:-1]).all(axis=1) & (images[1:] == images[:-1]) & (categories[1:] == categories[:-1])
    for place in np.flatnonzero(equal).tolist():
        first, second = order[place], order[place + 1]
        if _same_shape(sources[first], sources[second], task):
            repeated[second] = True
            findings.add("DS019", f"image {images[place]}: annotation {sources[second].id}")
    return repeated


def _same_shape(one: DiceAnnotation, other: DiceAnnotation, task: Task) -> bool:
    first, second = one.geometry, other.geometry
    if bool(first.iscrowd) != bool(second.iscrowd):
        return False
    if task in WITH_MASKS:
        return bool(first.segmentation == second.segmentation)
    return task is not Task.POSE or bool(first.keypoints == second.keypoints)
