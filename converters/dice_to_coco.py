"""From one DICE image to COCO annotations: classes, negative marks, boxes, masks.

Every function is pure but for the findings it counts. A task is one function from a DICE annotation to a `Shape`;
a further task is a further function in ``SHAPE_OF_TASK``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from converters.coco import CocoCategory, Segmentation
from converters.dice import BACKGROUND, DiceAnnotation, DiceClass, DiceImage, Geometry
from converters.findings import FindingCounter
from converters.geometry import MIN_SIDE_PX, XYWH, corners_in_order, finite_numbers, fit_box
from converters.keypoints import Keypoint, KeypointSchema, labelled, read_keypoints
from converters.masks import read_mask
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
    keypoints: list[Keypoint] | None = None
    """Empty for a crowd of which no point is told."""
    ignored: bool = False
    """To be treated as a crowd, whatever the file says."""


def index_classes(declared: Sequence[DiceClass]) -> Classes:
    """Order is list order; of classes with equal ids or names (blocked elsewhere) the first counts."""
    kept = tuple(one for one in declared if one.name != BACKGROUND)
    return Classes(
        declared=kept,
        index_of_id={one.id: index for index, one in reversed(list(enumerate(kept)))},
        index_of_name={one.name: index for index, one in reversed(list(enumerate(kept)))},
        background_ids=frozenset(one.id for one in declared if one.name == BACKGROUND),
    )


def coco_categories(classes: Classes, schema: KeypointSchema | None = None) -> list[CocoCategory]:
    """Categories 0..n-1 in source order."""
    points = None if schema is None else [list(part) for part in schema]
    return [
        CocoCategory(index, one.name, one.supercategory or "", *(points or ()))
        for index, one in enumerate(classes.declared)
    ]


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


def boxed(geometry: Geometry, image: DiceImage, where: str, findings: FindingCounter) -> Shape | None:
    """Object detection: the box, or the box of the mask where the box is missing or unusable."""
    bbox_xywh = _box_xywh(geometry, lambda: _mask_box(geometry, image), image, where, findings)
    return bbox_xywh and Shape(bbox_xywh, _area(geometry, bbox_xywh, bbox_xywh[2] * bbox_xywh[3]))


def masked(geometry: Geometry, image: DiceImage, where: str, findings: FindingCounter) -> Shape | None:
    """Instance segmentation: polygons or RLE, and a box as in detection."""
    mask, dropped_polygons = read_mask(geometry.segmentation, image.width, image.height)
    if dropped_polygons:
        findings.add("DS025", where, count=dropped_polygons, file=image.file_name)
    if mask is None:
        findings.add("DS026", where, file=image.file_name)
        return None
    bbox_xywh = _box_xywh(geometry, lambda: mask.box_xywh, image, where, findings)
    return bbox_xywh and Shape(bbox_xywh, _area(geometry, bbox_xywh, mask.area), mask.segmentation)


def painted(geometry: Geometry, image: DiceImage, where: str, findings: FindingCounter) -> Shape | None:
    """Semantic segmentation: polygons or RLE; of an object that has only a box, the box as pixels to ignore."""
    mask, _ = read_mask(geometry.segmentation, image.width, image.height)
    if mask is not None or finite_numbers(geometry.bbox) is None:
        return masked(geometry, image, where, findings)
    bbox_xywh = _box_xywh(geometry, lambda: None, image, where, findings)
    if bbox_xywh is None:
        return None
    findings.add("DS077", where, file=image.file_name)
    return Shape(bbox_xywh, bbox_xywh[2] * bbox_xywh[3], [_box_polygon(bbox_xywh)], ignored=True)


def _box_polygon(bbox_xywh: XYWH) -> list[float]:
    x, y, w, h = bbox_xywh
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def posed(geometry: Geometry, image: DiceImage, where: str, findings: FindingCounter) -> Shape | None:
    """Keypoints, and a box as in detection, or the one around the labelled points.

    An object that says of all its points that they are not labelled, and a crowd, keep their box: nothing is learned
    from them, but COCO's evaluation ignores what is found there instead of counting it as wrong.
    """
    found = read_keypoints(geometry.keypoints)
    points = [] if found is None else [_usable_point(point, image, where, findings) for point in found]
    placed = labelled(points)
    unlabelled = geometry.iscrowd if found is None else not any(visibility for _, _, visibility in found)
    if not placed and not (unlabelled and finite_numbers(geometry.bbox)):
        findings.add("DS061", where, file=image.file_name)
        return None
    bbox_xywh = _box_xywh(geometry, lambda: _points_box(placed) if placed else None, image, where, findings)
    return bbox_xywh and Shape(bbox_xywh, _area(geometry, bbox_xywh, bbox_xywh[2] * bbox_xywh[3]), keypoints=points)


ShapeOf = Callable[[Geometry, DiceImage, str, FindingCounter], Shape | None]

SHAPE_OF_TASK: dict[Task, ShapeOf] = {
    Task.DETECTION: boxed,
    Task.INSTANCE: masked,
    Task.SEMANTIC: painted,
    Task.POSE: posed,
}


def _box_xywh(
    geometry: Geometry,
    substitute: Callable[[], XYWH | None],
    image: DiceImage,
    where: str,
    findings: FindingCounter,
) -> XYWH | None:
    drawn = _as_xywh(geometry, where, findings)
    bbox_xywh, code = fit_box(drawn, image.width, image.height)
    if bbox_xywh is None and (other := substitute()) is not None:
        bbox_xywh, other_code = fit_box(other, image.width, image.height)
        code = "DS024" if bbox_xywh is not None else other_code
    if code:
        findings.add(code, f"{where}, box {geometry.bbox}", file=image.file_name)
    return bbox_xywh


def _as_xywh(geometry: Geometry, where: str, findings: FindingCounter) -> XYWH | None:
    """The box as its format means it, its corners in order; None unless it is four finite numbers."""
    numbers = finite_numbers(geometry.bbox)
    if numbers is None or len(numbers) != 4:
        return None
    x, y, w, h = numbers
    box_format = (geometry.bbox_format or "xywh").lower()
    if box_format == "xyxy":
        findings.add("DS045", f"{where}, box {geometry.bbox}")
        w, h = w - x, h - y
    elif box_format != "xywh":
        findings.add("DS028", f"{where}, bbox_format {geometry.bbox_format!r}")
    if w <= -MIN_SIDE_PX or h <= -MIN_SIDE_PX:
        findings.add("DS029", f"{where}, box {geometry.bbox}")
        return corners_in_order((x, y, w, h))
    return x, y, w, h


def _mask_box(geometry: Geometry, image: DiceImage) -> XYWH | None:
    mask, _ = read_mask(geometry.segmentation, image.width, image.height)
    return None if mask is None else mask.box_xywh


def _usable_point(
    found: tuple[float, float, float], image: DiceImage, where: str, findings: FindingCounter
) -> Keypoint:
    x, y, visibility = found
    if visibility not in (0, 1, 2):
        findings.add("DS063", f"{where}, visibility {visibility:g}", file=image.file_name)
        visibility = 2
    if visibility and not (0 <= x <= (image.width or x) and 0 <= y <= (image.height or y)):
        findings.add("DS062", f"{where}, point {x:g}, {y:g}", file=image.file_name)
        visibility = 0
    return x, y, int(visibility)


def _points_box(points: Sequence[Keypoint]) -> XYWH:
    left, right = min(x for x, _, _ in points), max(x for x, _, _ in points)
    top, bottom = min(y for _, y, _ in points), max(y for _, y, _ in points)
    return left, top, right - left, bottom - top


def _area(geometry: Geometry, bbox_xywh: XYWH, measured: float) -> float:
    """The area in the file, since COCO's size classes rest on it, unless it is nonsense or older than the box."""
    given = finite_numbers([geometry.area])
    return given[0] if given and 0 < given[0] <= bbox_xywh[2] * bbox_xywh[3] else measured
