"""Large pictures in overlapping tiles, and what was found in several views of one picture as one result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtrain.predicting.found import Bgr, Box, Found
from mmtrain.predicting.shapes import mirrored, moved

EDGE = 2.0
"""Pixels from the edge of a tile within which an object counts as cut by it."""
CUT_SHARE = 0.5


class View(NamedTuple):
    """A part of a picture, perhaps its mirror image; all of it is one too."""

    x: int
    y: int
    width: int
    height: int
    flipped: bool = False

    def of(self, picture: Bgr) -> Bgr:
        """Its pixels."""
        part = picture[self.y : self.y + self.height, self.x : self.x + self.width]
        return np.ascontiguousarray(part[:, ::-1] if self.flipped else part)


def views(
    width: int, height: int, *, tile: tuple[int, int] | None = None, overlap: float = 0.0, flip: bool = False
) -> list[View]:
    """The views of a picture: tiles (width, height) that share `overlap` of their side; for `flip` each mirrored too.

    A picture that fits into one tile is one view. Every tile has its full size where the picture is large enough: the
    last one of a row is moved back instead of being narrow.
    """
    tile_width, tile_height = tile or (width, height)
    spans_x, spans_y = spans(width, tile_width, overlap), spans(height, tile_height, overlap)
    plain = [View(x, y, right - x, bottom - y) for y, bottom in spans_y for x, right in spans_x]
    return [view for one in plain for view in ((one, one._replace(flipped=True)) if flip else (one,))]


def spans(length: int, tile: int, overlap: float) -> list[tuple[int, int]]:
    """From and to of the tiles along one side."""
    if length <= tile:
        return [(0, length)]
    step = max(1, int(tile * (1 - overlap)))
    starts = [*range(0, length - tile, step), length - tile]
    return [(start, start + tile) for start in starts]


def into_picture(
    found: Found, view: View, width: int, height: int, flip_pairs: Sequence[tuple[int, int]] = ()
) -> Found:
    """What was found in a view, in the pixels of its picture."""
    left, top, right, bottom = found.box_xyxy
    rle, keypoints = found.rle, found.keypoints
    if view.flipped:
        left, right = view.width - right, view.width - left
        rle = mirrored(rle) if rle else None
        keypoints = _mirrored_points(keypoints, view.width, flip_pairs) if keypoints else None
    if rle and (view.width, view.height) != (width, height):
        rle = moved(rle, view.x, view.y, width, height)
    if keypoints:
        keypoints = tuple((x + view.x, y + view.y, score) for x, y, score in keypoints)
    box = (left + view.x, top + view.y, right + view.x, bottom + view.y)
    return found._replace(box_xyxy=box, rle=rle, keypoints=keypoints)


def _mirrored_points(
    points: tuple[tuple[float, float, float], ...], width: int, pairs: Sequence[tuple[int, int]]
) -> tuple[tuple[float, float, float], ...]:
    """A mirror image's left hand is a right hand; pixel columns are counted by their centres."""
    turned = [(width - 1 - x, y, score) for x, y, score in points]
    for one, other in pairs:
        turned[one], turned[other] = turned[other], turned[one]
    return tuple(turned)


def merged(found: Sequence[tuple[View, Found]], iou: float, width: int, height: int) -> list[Found]:
    """One of each object that several views saw, the surest first.

    Two of one class, seen in different views, are the same object when their boxes overlap by more than `iou`, or when
    one of them was cut by the edge of its tile and lies to more than half of its area in the other. What one view saw
    twice stays: the model has said that these are two.

    Args:
        found: in pixels of the picture of this size, with the view that saw it.
    """
    order = sorted(found, key=lambda seen: (_cut(seen[0], seen[1], width, height), -seen[1].score))
    boxes = np.array([one.box_xyxy for _, one in order], dtype=np.float64).reshape(-1, 4)
    kept: list[int] = []
    for index, (view, one) in enumerate(order):
        rivals = [other for other in kept if order[other][1].label == one.label and order[other][0] != view]
        cut = _cut(view, one, width, height)
        if not rivals or not _same(boxes[index], boxes[rivals], iou, cut=cut).any():
            kept.append(index)
    return sorted((order[index][1] for index in kept), key=lambda one: -one.score)


def _cut(view: View, found: Found, width: int, height: int) -> bool:
    """Whether it reaches an edge of its view that is none of the picture's."""
    left, top, right, bottom = found.box_xyxy
    return (
        (left <= view.x + EDGE and view.x > 0)
        or (top <= view.y + EDGE and view.y > 0)
        or (right >= view.x + view.width - EDGE and view.x + view.width < width)
        or (bottom >= view.y + view.height - EDGE and view.y + view.height < height)
    )


def _same(box: NDArray[np.float64], others: NDArray[np.float64], iou: float, *, cut: bool) -> NDArray[np.bool_]:
    """Which of the boxes (N, 4) are the object of this one (4,), all xyxy -> (N,)."""
    shared = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(axis=1)
    own, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    alike = shared > iou * np.maximum(own + areas - shared, 1e-9)
    return np.asarray(alike | (shared > CUT_SHARE * max(own, 1e-9)) if cut else alike)


def cores(tile_views: Sequence[View]) -> list[Box]:
    """Of each tile the part that is nearer to its centre than to that of a neighbour: together all of the picture.

    Class maps of tiles are put together of these, since a model sees least at the edge of what it is shown.
    """
    rows = sorted({(view.y, view.y + view.height) for view in tile_views})
    columns = sorted({(view.x, view.x + view.width) for view in tile_views})
    x_of, y_of = _halved(columns), _halved(rows)
    return [(x_of[view.x][0], y_of[view.y][0], x_of[view.x][1], y_of[view.y][1]) for view in tile_views]


def _halved(line: list[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Start of a span -> the span without its half of what it shares with its neighbours."""
    ends = [(line[at][1] + line[at + 1][0]) // 2 for at in range(len(line) - 1)]
    edges = [line[0][0], *ends, line[-1][1]]
    return {span[0]: (edges[at], edges[at + 1]) for at, span in enumerate(line)}
