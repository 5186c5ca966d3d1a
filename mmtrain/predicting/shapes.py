"""Masks as others want them: polygons from RLE, RLE from pixels, the region of every class of a class map."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from mmtrain.predicting.found import Box, Rle

LEAST_POINTS = 3


def encoded(mask: NDArray[Any]) -> Rle:
    """A mask (H, W), 0 or 1."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decoded(rle: Rle) -> NDArray[np.uint8]:
    """(H, W), 0 or 1."""
    return np.asarray(coco_mask.decode(rle), dtype=np.uint8)


def moved(rle: Rle, x: int, y: int, width: int, height: int) -> Rle:
    """The mask of a tile whose upper left corner is at (x, y), as one of a picture of that size."""
    whole = np.zeros((height, width), dtype=np.uint8)
    part = decoded(rle)
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return encoded(whole)


def mirrored(rle: Rle) -> Rle:
    """Left for right."""
    return encoded(decoded(rle)[:, ::-1])


def polygons(rle: Rle) -> list[list[float]]:
    """The outlines ``[x1, y1, x2, y2, ...]`` of a mask, in pixels; holes are filled, the RLE has them.

    A part of less than three corners, a line one pixel wide, is written as the rectangle that holds its pixels.
    """
    contours, _ = cv2.findContours(decoded(rle), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [_outline(contour.reshape(-1, 2)) for contour in contours]


def _outline(points: NDArray[Any]) -> list[float]:
    if len(points) >= LEAST_POINTS:
        return [float(value) for value in points.ravel()]
    (left, top), (right, bottom) = points.min(axis=0).tolist(), (points.max(axis=0) + 1).tolist()
    return [float(value) for value in (left, top, right, top, right, bottom, left, bottom)]


def regions(indices: NDArray[np.uint8], classes: int) -> dict[int, NDArray[np.bool_]]:
    """Class index -> its pixels (H, W), of the classes that are there."""
    present = np.unique(indices)
    return {int(index): indices == index for index in present if index < classes}


def extent(mask: NDArray[np.bool_]) -> Box:
    """The xyxy box around the pixels of a mask that has some."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
