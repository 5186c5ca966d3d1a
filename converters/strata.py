"""What images have in common, so that a split can respect it: their classes, and the group they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from converters.dice import DiceDataset, DiceImage
from converters.dice_to_coco import Classes, class_index, index_classes, is_negative_mark
from converters.findings import FindingCounter

FOLDER = "folder"
METADATA = "metadata."


def image_labels(dataset: DiceDataset) -> list[frozenset[int]]:
    """The class indices in each image, by its annotations as they stand; empty for a background image."""
    classes = index_classes(dataset.classes)
    return [_labels(image, classes) for image in dataset.images]


def image_groups(images: Sequence[DiceImage], group_by: str, findings: FindingCounter) -> list[str]:
    """The group of each image, ``group_by`` being ``folder`` or ``metadata.<key>``.

    An image whose metadata have no text or number there is a group of its own, since nothing says that it belongs to
    another. Numbers and texts that look alike are one group, as they are with ids.
    """
    if group_by == FOLDER:
        return [f"folder {PurePosixPath(image.file_name).parent}" for image in images]
    key = group_by.removeprefix(METADATA)
    groups = []
    for place, image in enumerate(images):
        value = (image.metadata or {}).get(key)
        known = isinstance(value, str | int | float)
        groups.append(f"{key} {value}" if known else f"image {place}")
        if not known:
            findings.add("DS091", f"{image.file_name}: no {group_by}")
    if images and groups == [f"image {place}" for place in range(len(images))]:
        findings.add("DS093", group_by)
    return groups


def _labels(image: DiceImage, classes: Classes) -> frozenset[int]:
    found = (class_index(one, classes) for one in image.annotations if not is_negative_mark(one, classes))
    return frozenset(index for index in found if index is not None)
