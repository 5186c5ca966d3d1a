"""A DICE data set in memory, as its author wrote it: unjudged, in file order, geometry still JSON.

A million decoded polygons are gigabytes of Python floats, so an annotation keeps its own piece of the file and only its
label is decoded. `columns.py` turns the pieces into numbers, some thousand at a time.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from converters.findings import Finding

BACKGROUND = "__background__"
"""Marks negative images; never a class to learn. Case matters."""

Id = int | str


class DiceClass(msgspec.Struct, frozen=True):
    """A declared class; ``id`` is any integer and says nothing about the order. Keypoint fields are COCO's."""

    id: int
    name: str
    supercategory: str | None = None
    color: Any = None
    keypoints: Any = None
    skeleton: Any = None
    flip_pairs: Any = None


class Geometry(msgspec.Struct, frozen=True):
    """The place of one object, unjudged: ``bbox``, ``segmentation`` and ``keypoints`` hold anything JSON can."""

    bbox: Any = None
    bbox_format: str | None = None
    segmentation: Any = None
    keypoints: Any = None
    area: Any = None
    iscrowd: int | bool | None = None


class DiceAnnotation(msgspec.Struct, frozen=True, gc=False):
    """One labelled object: who it is, and the JSON object it came from."""

    id: Id | None
    class_id: int | None
    class_name: str | None
    json: msgspec.Raw

    @property
    def geometry(self) -> Geometry:
        """Decoded anew at every look; the reader checked the types of what is typed."""
        try:
            return msgspec.json.decode(self.json, type=Geometry, strict=False)
        except ValueError:  # a number beyond any float (1e999), which the reader passed over
            return msgspec.convert(json.loads(bytes(self.json)), Geometry, strict=False)


class DiceImage(msgspec.Struct, frozen=True):
    """An image and its annotations, in file order."""

    id: Id
    file_name: str
    width: int | None
    height: int | None
    split: str | None
    annotations: tuple[DiceAnnotation, ...]
    mask_file: str | None = None
    """A semantic mask, relative to the data set: an image whose pixels are class ids."""
    metadata: dict[str, Any] | None = None


class DiceDataset(msgspec.Struct, frozen=True):
    """A data set as its author wrote it; ``findings`` are those of the reader."""

    dataset_id: str | None
    task_type: str | None
    classes: tuple[DiceClass, ...]
    images: tuple[DiceImage, ...]
    split_config: dict[str, Any] | None = None
    storage_info: dict[str, Any] | None = None
    findings: tuple[Finding, ...] = ()
