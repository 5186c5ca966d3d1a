"""Which class every annotation means: one column for the whole data set."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from converters.dice import DiceAnnotation, DiceDataset
from converters.dice_to_coco import Classes, class_index, is_negative_mark, label_fault
from converters.findings import FindingCounter

NEGATIVE_MARK, UNKNOWN = -1, -2
"""Instead of a class index: the annotation says "nothing here", or its class cannot be told."""


def read_labels(dataset: DiceDataset, classes: Classes, findings: FindingCounter) -> NDArray[np.int32]:
    """The class index of every annotation, image by image; equal mistakes are told once, with their number."""
    annotations = chain.from_iterable(image.annotations for image in dataset.images)
    kinds: dict[tuple[int | None, str | None], int] = {}
    kind_of = [kinds.setdefault((a.class_id, a.class_name), len(kinds)) for a in annotations]
    counts = Counter(kind_of)
    index_of_kind = np.empty(len(kinds), dtype=np.int32)
    for (class_id, class_name), kind in kinds.items():
        example = DiceAnnotation(None, class_id, class_name, Raw())
        index_of_kind[kind] = _index(example, classes)
        if code := label_fault(example, classes):
            label = f"class_id {class_id}, class_name {class_name!r}"
            findings.add(code, f"{label}, {counts[kind]} times", count=counts[kind])
    return index_of_kind[kind_of]


def _index(annotation: DiceAnnotation, classes: Classes) -> int:
    if is_negative_mark(annotation, classes):
        return NEGATIVE_MARK
    index = class_index(annotation, classes)
    return UNKNOWN if index is None else index
