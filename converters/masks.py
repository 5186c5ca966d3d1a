"""Instance masks: polygons or RLE, checked and measured without ever being drawn."""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

from converters.coco import Rle, Segmentation
from converters.geometry import XYWH, polygon_area, polygons_box_xywh, usable_polygon

MAX_RUN_CHARACTERS = 7
"""Seven characters of five bits exceed the 32 bits that pycocotools keeps for a run."""


class Mask(NamedTuple):
    """A usable mask, its box and its area in (square) pixels; overlapping parts are counted twice."""

    segmentation: Segmentation
    box_xywh: XYWH
    area: float


def read_mask(found: Any, width: int | None, height: int | None) -> tuple[Mask | None, int]:
    """The usable mask in a ``segmentation`` field, and how many of its polygons were not usable."""
    if isinstance(found, dict):
        return rle_mask(found, width, height), 0
    if not isinstance(found, list):
        return None, 0
    found = polygon_parts(found)
    polygons = [polygon for part in found if (polygon := usable_polygon(part, width, height))]
    dropped = len(found) - len(polygons)
    mask = polygon_mask(polygons, width, height) if polygons else None
    return (mask if mask and mask.area else None), dropped


def polygon_parts(found: list[Any]) -> list[Any]:
    """Parts ``[x1, y1, ...]``, also where there is one without its outer list, or points come in pairs."""
    if found and all(type(number) in (int, float) for number in found):
        return [found]
    if found and all(_is_point(point) for point in found):
        return [list(chain.from_iterable(found))]
    return [list(chain.from_iterable(part)) if _has_points(part) else part for part in found]


def _has_points(part: Any) -> bool:
    return isinstance(part, list) and bool(part) and all(_is_point(point) for point in part)


def _is_point(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 2 and all(type(number) in (int, float) for number in found)


def polygon_mask(polygons: list[list[float]], width: int | None, height: int | None) -> Mask:
    """All parts of one object; what reaches beyond the image is no area of it, and is drawn to be measured."""
    x, y, w, h = box_xywh = polygons_box_xywh(polygons)
    if width and height and (x < 0 or y < 0 or x + w > width or y + h > height):
        drawn = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        return Mask(polygons, box_xywh, float(coco_mask.area(drawn)))
    return Mask(polygons, box_xywh, sum(map(polygon_area, polygons)))


def rle_mask(rle: Rle, width: int | None, height: int | None) -> Mask | None:
    """The RLE itself, unchanged, if its runs fill exactly its image and mark something.

    pycocotools trusts its input and may crash the process on runs that do not add up, so they are added up first.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width] or not width or not height:
        return None
    runs = decompress_runs(counts) if isinstance(counts, str) else _plain_runs(counts)
    if runs is None or min(runs, default=-1) < 0 or sum(runs) != width * height or not sum(runs[1::2]):
        return None
    packed = coco_mask.frPyObjects({"size": size, "counts": runs}, height, width)
    x, y, w, h = coco_mask.toBbox(packed).tolist()
    return Mask({"size": size, "counts": counts}, (x, y, w, h), float(sum(runs[1::2])))


def decompress_runs(text: str) -> list[int] | None:
    """The runs in a compressed ``counts`` string, or None if it is none.

    A run is written in groups of five bits, lowest first, each in one character from "0" on; bit 6 announces another
    group, bit 5 of the last group is the sign. From the fourth run on, the difference to the last run but one is
    written.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - ord("0")
        if not 0 <= group < 64 or shift >= 5 * MAX_RUN_CHARACTERS:
            return None
        value |= (group & 0b11111) << shift
        shift += 5
        if group & 0b100000:
            continue
        if group & 0b10000:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift else runs


def _plain_runs(counts: Any) -> list[int] | None:
    if isinstance(counts, list) and all(isinstance(run, int) and not isinstance(run, bool) for run in counts):
        return counts
    return None
