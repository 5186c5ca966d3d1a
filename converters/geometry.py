"""Boxes and polygons: are they usable, and what is left of them inside their image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul
from typing import Any

XYWH = tuple[float, float, float, float]
"""Left, top, width, height in absolute pixels."""

MIN_SIDE_PX = 1.0
"""mmdet skips narrower boxes when training, but pycocotools would still count each of them as missed."""

MAX_POLYGON_COORDINATE_PX = 1e5
"""pycocotools walks along every edge in steps of a fifth of a pixel: at 1e9 it crashes the process."""

MAX_COORDINATE_PX = 1e9
"""Larger than any image; keeps arithmetic on nonsense from overflowing."""

ROUNDING_PX = 1e-6
"""x + width may pass the border by a rounding error; that is not worth a finding."""


def finite_numbers(found: Any) -> list[float] | None:
    """``found`` as floats, or None if it is anything but a list of finite numbers (true is not 1 here)."""
    if not isinstance(found, list | tuple):
        return None
    # By exact type, as bool is an int; NaN fails the comparison.
    if not all(type(number) in (int, float) and abs(number) <= MAX_COORDINATE_PX for number in found):
        return None
    return [float(number) for number in found]


def fit_box(found: Any, width: int | None, height: int | None) -> tuple[XYWH | None, str]:
    """The part of an xywh box inside its image, and the code of what was wrong with it (empty: nothing).

    An unknown image side does not clip; such a data set is blocked anyway.
    """
    numbers = finite_numbers(found)
    if numbers is None or len(numbers) != 4:
        return None, "DS023"
    x, y, w, h = numbers
    if w < MIN_SIDE_PX or h < MIN_SIDE_PX:
        return None, "DS021"
    left, right = max(x, 0.0), min(x + w, width or math.inf)
    top, bottom = max(y, 0.0), min(y + h, height or math.inf)
    if max(left - x, x + w - right, top - y, y + h - bottom) <= ROUNDING_PX:
        return (x, y, w, h), ""
    if right <= left or bottom <= top:
        return None, "DS022"
    if right - left < MIN_SIDE_PX or bottom - top < MIN_SIDE_PX:
        return None, "DS021"
    return (left, top, right - left, bottom - top), "DS020"


def corners_in_order(box_xywh: XYWH) -> XYWH:
    """The same box with its left top corner first, for one drawn from another corner."""
    x, y, w, h = box_xywh
    return min(x, x + w), min(y, y + h), abs(w), abs(h)


def usable_polygon(found: Any, width: int | None, height: int | None) -> list[float] | None:
    """One polygon ``[x1, y1, x2, y2, ...]`` if it has three points and covers something of its image."""
    numbers = finite_numbers(found)
    if numbers is None or len(numbers) < 6 or len(numbers) % 2 or polygon_area(numbers) <= 0:
        return None
    if max(map(abs, numbers)) > MAX_POLYGON_COORDINATE_PX:
        return None
    left, top, box_width, box_height = polygons_box_xywh([numbers])
    reaches_in = left + box_width > 0 and top + box_height > 0
    starts_in = left < (width or math.inf) and top < (height or math.inf)
    return numbers if reaches_in and starts_in else None


def polygon_area(polygon: Sequence[float]) -> float:
    """Area in square pixels by the shoelace formula, whichever way round the points go."""
    # Relative to the first point, or products of large coordinates lose their last digits.
    x = [value - polygon[0] for value in polygon[0::2]]
    y = [value - polygon[1] for value in polygon[1::2]]
    return abs(float(sum(map(mul, x, y[1:] + y[:1]))) - float(sum(map(mul, y, x[1:] + x[:1])))) / 2


def polygons_box_xywh(polygons: Sequence[Sequence[float]]) -> XYWH:
    """The smallest box around all parts of one object."""
    left, right = min(min(p[0::2]) for p in polygons), max(max(p[0::2]) for p in polygons)
    top, bottom = min(min(p[1::2]) for p in polygons), max(max(p[1::2]) for p in polygons)
    return left, top, right - left, bottom - top
