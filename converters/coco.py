"""The COCO annotation file as pycocotools, faster-coco-eval and mm* read it; and a split on its way into one.

A split keeps its objects in columns (`ObjectTable`) and makes `CocoAnnotation`s one by one while it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.dice import DiceAnnotation
from converters.geometry import XYWH
from converters.json_pieces import NULL, joined
from converters.whole_file import write_whole

Rle = dict[str, Any]
"""``{"size": [height, width], "counts": [runs] or "compressed"}``, column by column, background first."""

Segmentation = list[list[float]] | Rle
"""Polygons ``[[x1, y1, x2, y2, ...], ...]`` in absolute pixels, all parts of one object; or one RLE."""

ANNOTATIONS_A_WRITE = 5_000


class CocoCategory(msgspec.Struct, frozen=True, omit_defaults=True):
    """A class; ``id`` is 0-based and contiguous here, unlike in the original COCO files.

    ``skeleton`` and ``flip_pairs`` count keypoints from 1, as COCO does; ``flip_pairs`` is ours.
    """

    id: int
    name: str
    supercategory: str
    keypoints: list[str] | None = None
    skeleton: list[tuple[int, int]] | None = None
    flip_pairs: list[tuple[int, int]] | None = None


class CocoImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """``width`` and ``height`` are null only in a conversion that has blocking findings."""

    id: int
    file_name: str
    width: int | None
    height: int | None
    seg_file_name: str | None = None
    """Semantic segmentation: the image of class indices, relative to the folder of the annotation file."""


class CocoAnnotation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object. ``id`` starts at 1: pycocotools takes a match with annotation 0 for no match."""

    id: int
    image_id: int
    category_id: int
    bbox: XYWH
    area: float
    iscrowd: int  # no default, or omit_defaults would leave it out and pycocotools fail
    segmentation: Any = None
    """`Segmentation`, or its JSON."""
    keypoints: list[float] | None = None
    """x, y, visibility (0 not labelled, 1 hidden, 2 visible) of every point, one after the other."""
    num_keypoints: int | None = None


class ObjectTable(NamedTuple):
    """All objects of a split, one row each, in the order of their ids."""

    id: NDArray[np.int64]
    image_id: NDArray[np.int32]
    category_id: NDArray[np.int32]
    bbox_xywh: NDArray[np.float64]
    """(n, 4) pixels, inside the image."""
    area: NDArray[np.float64]
    iscrowd: NDArray[np.bool_]
    keypoints: NDArray[np.float64]
    """(n, k, 3) x, y, visibility; k is 0 in tasks without keypoints."""

    @property
    def keypoints_labelled(self) -> NDArray[np.int16]:
        """(n,) points with a visibility above 0."""
        return np.asarray((self.keypoints[:, :, 2] > 0).sum(axis=1), dtype=np.int16)

    def take(self, rows: NDArray[Any] | slice) -> ObjectTable:
        """Some rows, by numbers, flags or range."""
        return ObjectTable(*(column[rows] for column in self))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class CocoSplit:
    """One split before it is written. ``sources[i]`` is where row i of ``objects`` came from."""

    info: dict[str, str]
    images: list[CocoImage]
    categories: list[CocoCategory]
    objects: ObjectTable
    sources: list[DiceAnnotation]
    segmentations: dict[int, Segmentation] | None
    """Annotation id -> what is written instead of the source's own; None in tasks without masks."""

    @property
    def annotations(self) -> Sequence[CocoAnnotation]:
        """Made at every look."""
        return _Annotations(self)


class _Annotations(Sequence[CocoAnnotation]):
    def __init__(self, split: CocoSplit) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(self._split.sources)

    def __iter__(self) -> Iterator[CocoAnnotation]:
        for start in range(0, len(self), ANNOTATIONS_A_WRITE):
            yield from self[start : start + ANNOTATIONS_A_WRITE]

    @overload
    def __getitem__(self, index: int) -> CocoAnnotation: ...
    @overload
    def __getitem__(self, index: slice) -> list[CocoAnnotation]: ...
    def __getitem__(self, index: int | slice) -> CocoAnnotation | list[CocoAnnotation]:
        rows = range(len(self))[index]
        return (
            _made(self._split, rows.start, rows.stop)
            if isinstance(rows, range)
            else _made(self._split, rows, rows + 1)[0]
        )


class _Segmented(msgspec.Struct):
    segmentation: msgspec.Raw = NULL


_SEGMENTED = msgspec.json.Decoder(list[_Segmented])


def _made(split: CocoSplit, start: int, end: int) -> list[CocoAnnotation]:
    """Rows start to end; a segmentation that needed no repair passes as the JSON it is."""
    rows = slice(start, end)
    columns = [column.tolist() for column in split.objects.take(rows)[:6]]
    sources = split.sources[rows]
    segmentations: list[Any] = [None] * len(sources)
    if split.segmentations is not None:
        found = _SEGMENTED.decode(joined([source.json for source in sources]))
        segmentations = [split.segmentations.get(i, one.segmentation) for i, one in zip(columns[0], found, strict=True)]
    return [
        CocoAnnotation(i, image, category, tuple(bbox), area, int(crowd), segmentation, points, labelled)
        for i, image, category, bbox, area, crowd, segmentation, (points, labelled) in zip(
            *columns, segmentations, _keypoints(split.objects.take(rows)), strict=False
        )
    ]


def _keypoints(objects: ObjectTable) -> Iterable[tuple[list[float] | None, int | None]]:
    if not objects.keypoints.shape[1]:
        return repeat((None, None))
    flat = objects.keypoints.reshape(len(objects.keypoints), -1)
    return zip(flat.tolist(), objects.keypoints_labelled.tolist(), strict=True)


def encode_coco(split: CocoSplit) -> Iterator[bytes]:
    """The annotation file, piece by piece; equal splits give equal bytes."""
    yield b'{"info":' + msgspec.json.encode(split.info)  # not optional in practice: COCO.loadRes copies it
    yield b',"images":' + msgspec.json.encode(split.images)
    yield b',"categories":' + msgspec.json.encode(split.categories)
    yield b',"annotations":['
    for start in range(0, len(split.sources), ANNOTATIONS_A_WRITE):
        made = _made(split, start, min(start + ANNOTATIONS_A_WRITE, len(split.sources)))
        yield (b"," if start else b"") + msgspec.json.encode(made)[1:-1]
    yield b"]}"


def write_coco(split: CocoSplit, path: Path) -> None:
    """The file appears whole or not at all."""
    write_whole(path, encode_coco(split))
