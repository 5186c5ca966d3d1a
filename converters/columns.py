"""Boxes and polygons of thousands of annotations as columns of numbers, and which of them need no second look.

What is clean here would pass `geometry.py` and `masks.py` unchanged; everything else goes through them, one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np
import shapely
from numpy.typing import NDArray

from converters.dice import DiceAnnotation
from converters.geometry import MAX_COORDINATE_PX, MAX_POLYGON_COORDINATE_PX, MIN_SIDE_PX, ROUNDING_PX
from converters.json_pieces import NULL, decode_each, joined

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class RawGeometry(msgspec.Struct):
    """`Geometry` with its large parts still JSON."""

    bbox: msgspec.Raw = NULL
    bbox_format: str | None = None
    segmentation: msgspec.Raw = NULL
    keypoints: msgspec.Raw = NULL
    area: msgspec.Raw = NULL
    iscrowd: int | bool | None = None


class PolygonColumns(NamedTuple):
    """Per annotation: what its polygons amount to, where they are ``clean``; elsewhere the numbers mean nothing."""

    clean: Flags
    area: Floats
    box_xywh: Floats
    crossing: Flags


_GEOMETRIES = msgspec.json.Decoder(list[RawGeometry], strict=False)
_NUMBERS = msgspec.json.Decoder(list[float | None])
_BOXES = msgspec.json.Decoder(list[tuple[float, float, float, float] | None])
_POLYGONS = msgspec.json.Decoder(list[list[list[float]] | dict[str, msgspec.Raw] | None])
_NO_BOX = (np.nan,) * 4


def raw_geometries(annotations: Sequence[DiceAnnotation]) -> list[RawGeometry]:
    """The geometry of every annotation; its types were checked by the reader."""
    return _GEOMETRIES.decode(joined([annotation.json for annotation in annotations]))


def box_column(raws: Sequence[msgspec.Raw]) -> Floats:
    """Four numbers each, (n, 4); NaN for what is not a list of four numbers."""
    rows = [row or _NO_BOX for row in decode_each(raws, _BOXES.decode)]
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def number_column(raws: Sequence[msgspec.Raw]) -> Floats:
    """A number each, (n,); NaN for what is none."""
    numbers = decode_each(raws, _NUMBERS.decode)
    return np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)


def clean_boxes(boxes_xywh: Floats, sizes: Floats) -> Flags:
    """Which boxes are finite, at least a pixel wide and high, and inside images of ``sizes`` (n, 2: width, height)."""
    with np.errstate(invalid="ignore", over="ignore"):
        near, far = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
        finite = (np.abs(boxes_xywh) <= MAX_COORDINATE_PX).all(axis=1)
        wide = (boxes_xywh[:, 2:] >= MIN_SIDE_PX).all(axis=1)
        inside = (near >= -ROUNDING_PX).all(axis=1) & (far <= sizes + ROUNDING_PX).all(axis=1)
    return np.asarray(finite & wide & inside)


def polygon_columns(raws: Sequence[msgspec.Raw], sizes: Floats) -> PolygonColumns:
    """Measures the annotations whose segmentation is nothing but usable polygons."""
    rows = [row if isinstance(row, list) else [] for row in decode_each(raws, _POLYGONS.decode)]
    clean = _has_polygons_only(rows)
    columns = PolygonColumns(clean, np.zeros(len(rows)), np.zeros((len(rows), 4)), np.zeros(len(rows), dtype=bool))
    kept = np.flatnonzero(clean)
    if len(kept):
        measured = _measure([rows[i] for i in kept] if len(kept) < len(rows) else rows, sizes[kept])
        for column, values in zip(columns, measured, strict=True):
            column[kept] = values
    return columns


def _has_polygons_only(rows: list[list[list[float]]]) -> Flags:
    """Which rows have parts, each of at least three points."""
    parts = np.fromiter(map(len, rows), np.int64, len(rows))
    numbers = np.fromiter(map(len, chain.from_iterable(rows)), np.int64, int(parts.sum()))
    faults = np.bincount(np.repeat(np.arange(len(rows)), parts)[(numbers < 6) | (numbers % 2 > 0)], minlength=len(rows))
    return np.asarray((parts > 0) & (faults == 0))


def _measure(rows: list[list[list[float]]], sizes: Floats) -> PolygonColumns:
    parts = list(chain.from_iterable(rows))
    points = np.fromiter(map(len, parts), np.int64, len(parts)) // 2
    xy = np.fromiter(chain.from_iterable(parts), np.float64, 2 * int(points.sum())).reshape(-1, 2)
    first = np.concatenate([[0], np.cumsum(points)[:-1]])
    row_first = np.concatenate([[0], np.cumsum([len(row) for row in rows])[:-1]])
    near, far = np.minimum.reduceat(xy, first), np.maximum.reduceat(xy, first)
    area = _areas(xy, first, points)
    with np.errstate(invalid="ignore"):
        sizes_of_parts = np.repeat(sizes, [len(row) for row in rows], axis=0)
        usable = (np.maximum(np.abs(near), np.abs(far)) <= MAX_POLYGON_COORDINATE_PX).all(axis=1)
        usable &= (area > 0) & (far > 0).all(axis=1) & (near < sizes_of_parts).all(axis=1)
    low, high = np.minimum.reduceat(near, row_first), np.maximum.reduceat(far, row_first)
    rings = shapely.linearrings(xy, indices=np.repeat(np.arange(len(parts)), points))
    return PolygonColumns(
        clean=np.logical_and.reduceat(usable, row_first),
        area=np.add.reduceat(area, row_first),
        box_xywh=np.concatenate([low, high - low], axis=1),
        crossing=np.logical_or.reduceat(~shapely.is_simple(rings), row_first),
    )


def _areas(xy: Floats, first: NDArray[np.int64], points: NDArray[np.int64]) -> Floats:
    """Square pixels by the shoelace formula; from the first point, or large coordinates lose digits."""
    x, y = (xy - np.repeat(xy[first], points, axis=0)).T
    following = np.arange(1, len(xy) + 1)
    following[first + points - 1] = first
    return np.asarray(np.abs(np.add.reduceat(x * y[following] - y * x[following], first)) / 2)
