"""The COCO annotation file as pycocotools, faster-coco-eval and mm* read it."""

from __future__ import annotations

from typing import Any

import msgspec

XYWH = tuple[float, float, float, float]
"""Left, top, width, height in absolute pixels."""

Rle = dict[str, Any]
"""``{"size": [height, width], "counts": [runs] or "compressed"}``, column by column, background first."""

Segmentation = list[list[float]] | Rle
"""Polygons ``[[x1, y1, x2, y2, ...], ...]`` in absolute pixels, all parts of one object; or one RLE."""


class CocoCategory(msgspec.Struct, frozen=True):
    """A class; ``id`` is 0-based and contiguous here, unlike in the original COCO files."""

    id: int
    name: str
    supercategory: str = ""


class CocoImage(msgspec.Struct, frozen=True):
    """``width`` and ``height`` are null only in a conversion that has blocking findings."""

    id: int
    file_name: str
    width: int | None
    height: int | None


class CocoAnnotation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object. ``id`` starts at 1: pycocotools takes a match with annotation 0 for no match."""

    id: int
    image_id: int
    category_id: int
    bbox: XYWH
    area: float
    iscrowd: int  # no default, or omit_defaults would leave it out and pycocotools fail
    segmentation: Segmentation | None = None


class CocoDataset(msgspec.Struct, frozen=True):
    """One split. ``info`` is not optional in practice: ``COCO.loadRes`` copies it."""

    info: dict[str, str]
    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


def encode_coco(dataset: CocoDataset) -> bytes:
    """The bytes of an annotation file; equal data sets give equal bytes."""
    return msgspec.json.encode(dataset)


def decode_coco(raw: bytes) -> CocoDataset:
    """The inverse of `encode_coco`; for files written by us, not for COCO files of other origin."""
    return msgspec.json.decode(raw, type=CocoDataset)
