"""The images that are used, numbered, and what their negative marks say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.dice import DiceDataset, DiceImage
from converters.findings import FindingCounter
from converters.labels import NEGATIVE_MARK
from converters.split import SplitName
from trainer_sdk.tasks import Task


class UsedImage(NamedTuple):
    """An image of a split: its COCO id, from 1 on, and where its annotations stand among all of the data set."""

    id: int
    image: DiceImage
    split: SplitName
    annotations: slice


def used_images(
    dataset: DiceDataset,
    of_image: Sequence[SplitName | None],
    labels: NDArray[np.int32],
    task: Task,
    findings: FindingCounter,
) -> list[UsedImage]:
    """Every image that has a split, in the order of the data set."""
    has_masks = any(image.mask_file for image in dataset.images)
    used: list[UsedImage] = []
    start = 0
    for image, split in zip(dataset.images, of_image, strict=True):
        annotations = slice(start, start + len(image.annotations))
        start = annotations.stop
        if split is None:
            continue
        marked = labels[annotations] == NEGATIVE_MARK
        if task is Task.SEMANTIC and has_masks and image.mask_file is None and not len(marked):
            findings.add("DS075", image.file_name, file=image.file_name)
            continue
        if marked.all():
            if task is not Task.SEMANTIC or image.mask_file is None:
                findings.add("DS015", image.file_name, file=image.file_name)
        elif marked.any():
            findings.add("DS014", image.file_name, file=image.file_name)
        used.append(UsedImage(len(used) + 1, image, split, annotations))
    return used
