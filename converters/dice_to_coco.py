"""From one DICE image to COCO annotations: classes, negative marks, boxes, masks.

Every function is pure but for the findings it counts. A task is one function from a DICE annotation to a `Shape`;
a further task (keypoints) is a further function in ``SHAPE_OF_TASK``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from converters.coco import XYWH, CocoCategory, Segmentation
from converters.dice import BACKGROUND, DiceAnnotation, DiceClass, DiceImage, Id
from converters.findings import FindingCounter
from converters.geometry import finite_numbers, fit_box
from converters.masks import Mask, read_mask
from trainer_sdk.tasks import Task


class Classes(NamedTuple):
    """The classes to learn: an index is a position in the declared list after ``__background__`` is taken out."""

    declared: tuple[DiceClass, ...]
    index_of_id: dict[int, int]
    index_of_name: dict[str, int]
    background_ids: frozenset[int]


class Shape(NamedTuple):
    """What a task learns about the place of one object; pixels and square pixels."""

    bbox_xywh: XYWH
    area: float
    segmentation: Segmentation | None = None


class LabelledObject(NamedTuple):
    """An object that survived conversion."""

    original_id: Id | None
    class_index: int
    shape: Shape
    iscrowd: bool


def index_classes(declared: Sequence[DiceClass]) -> Classes:
    """Order is list order; of classes with equal ids or names (blocked elsewhere) the first counts."""
    kept = tuple(one for one in declared if one.name != BACKGROUND)
    return Classes(
        declared=kept,
        index_of_id={one.id: index for index, one in reversed(list(enumerate(kept)))},
        index_of_name={one.name: index for index, one in reversed(list(enumerate(kept)))},
        background_ids=frozenset(one.id for one in declared if one.name == BACKGROUND),
    )


def coco_categories(classes: Classes) -> list[CocoCategory]:
    """Categories 0..n-1 in source order."""
    return [CocoCategory(index, one.name, one.supercategory or "") for index, one in enumerate(classes.declared)]


def is_negative_mark(annotation: DiceAnnotation, classes: Classes) -> bool:
    """Does it say "nothing here"? By name, or by the id of the background class when it gives no name."""
    if annotation.class_name is None:
        return annotation.class_id in classes.background_ids
    return annotation.class_name == BACKGROUND


def class_index(annotation: DiceAnnotation, classes: Classes) -> int | None:
    """The class by id, or by name where no id is given."""
    if annotation.class_id is None:
        return classes.index_of_name.get(annotation.class_name or "")
    return classes.index_of_id.get(annotation.class_id)


def label_fault(annotation: DiceAnnotation, classes: Classes) -> str:
    """The code of what is wrong with a label: DS006 undeclared, DS007 contradictory, empty if it is sound."""
    if is_negative_mark(annotation, classes):
        return ""
    if annotation.class_id in classes.background_ids:
        return "DS007"
    index = class_index(annotation, classes)
    if index is None:
        return "DS006"
    return "" if annotation.class_name in (None, classes.declared[index].name) else "DS007"


def boxed(annotation: DiceAnnotation, image: DiceImage, where: str, findings: FindingCounter) -> Shape | None:
    """Object detection: the box, or the box of the mask where the box is missing or unusable."""
    mask = None
    if fit_box(annotation.bbox, image.width, image.height)[0] is None:
        mask, _ = read_mask(annotation.segmentation, image.width, image.height)
    bbox_xywh = _box_xywh(annotation, mask, image, where, findings)
    if bbox_xywh is None:
        return None
    return Shape(bbox_xywh, _area(annotation, bbox_xywh, bbox_xywh[2] * bbox_xywh[3]))


def masked(annotation: DiceAnnotation, image: DiceImage, where: str, findings: FindingCounter) -> Shape | None:
    """Instance segmentation: polygons or RLE, and a box as in detection."""
    mask, dropped_polygons = read_mask(annotation.segmentation, image.width, image.height)
    if dropped_polygons:
        findings.add("DS025", where, count=dropped_polygons)
    if mask is None:
        findings.add("DS026", where)
        return None
    bbox_xywh = _box_xywh(annotation, mask, image, where, findings)
    if bbox_xywh is None:
        return None
    return Shape(bbox_xywh, _area(annotation, bbox_xywh, mask.area), mask.segmentation)


ShapeOf = Callable[[DiceAnnotation, DiceImage, str, FindingCounter], Shape | None]

SHAPE_OF_TASK: dict[Task, ShapeOf] = {Task.DETECTION: boxed, Task.INSTANCE: masked}


def labelled_objects(
    image: DiceImage, classes: Classes, shape_of: ShapeOf, findings: FindingCounter
) -> Iterator[LabelledObject]:
    """The objects of one image in file order; negative marks are none."""
    marks = sum(is_negative_mark(annotation, classes) for annotation in image.annotations)
    if marks and marks < len(image.annotations):
        findings.add("DS014", image.file_name)
    if marks == len(image.annotations):
        findings.add("DS015", image.file_name)
    for annotation in image.annotations:
        if is_negative_mark(annotation, classes):
            continue
        index = class_index(annotation, classes)
        shape = shape_of(annotation, image, f"{image.file_name}: annotation {annotation.id}", findings)
        if index is not None and shape is not None:
            yield LabelledObject(annotation.id, index, shape, annotation.iscrowd)


def _box_xywh(
    annotation: DiceAnnotation, mask: Mask | None, image: DiceImage, where: str, findings: FindingCounter
) -> XYWH | None:
    if annotation.bbox is not None and (annotation.bbox_format or "xywh").lower() != "xywh":
        findings.add("DS028", f"{where}, bbox_format {annotation.bbox_format!r}")
    bbox_xywh, code = fit_box(annotation.bbox, image.width, image.height)
    if bbox_xywh is None and mask is not None:
        bbox_xywh, mask_code = fit_box(mask.box_xywh, image.width, image.height)
        code = "DS024" if bbox_xywh is not None else mask_code
    if code:
        findings.add(code, f"{where}, box {annotation.bbox}")
    return bbox_xywh


def _area(annotation: DiceAnnotation, bbox_xywh: XYWH, measured: float) -> float:
    """The area in the file, since COCO's size classes rest on it, unless it is nonsense or older than the box."""
    given = finite_numbers([annotation.area])
    return given[0] if given and 0 < given[0] <= bbox_xywh[2] * bbox_xywh[3] else measured
