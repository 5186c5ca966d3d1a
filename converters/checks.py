"""Checks of a data set as a whole: before conversion its identity, after conversion its classes, objects and splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from converters.coco import CocoSplit, ObjectTable
from converters.dice import BACKGROUND, DiceDataset, Id
from converters.findings import FindingCounter
from converters.layout import file_name_problem, normal_file_name
from converters.objects import Objects
from converters.semantic import PixelClasses
from converters.shape_columns import Seen
from trainer_sdk.tasks import Task

EXTREME_ASPECT = 20.0
RARE_SHARE = 0.01
"""Of the largest class's objects; LVIS calls classes in fewer than 10 of 100,000 images rare, so this is generous."""
FEW_IMAGES = 50
FEW_LOST = 10


def check_images(dataset: DiceDataset, findings: FindingCounter) -> None:
    """Images exist, can be told apart, stay inside their folder and have a size."""
    if not dataset.images:
        findings.add("DS001")
    for image_id, count in _repeated(str(image.id) for image in dataset.images):
        findings.add("DS008", f"id {image_id}, {count} times", count=count - 1)
    for name, count in _repeated(normal_file_name(image.file_name) for image in dataset.images if image.file_name):
        findings.add("DS009", f"{name}, {count} times", count=count - 1)
    for image in dataset.images:
        for name in filter(None, (image.file_name, image.mask_file)) if image.file_name else ("",):
            if problem := file_name_problem(name):
                findings.add("DS012", f"image {image.id}: {name!r} {problem}")
        if image.width is None or image.height is None:
            findings.add("DS011", f"{image.file_name}: width {image.width}, height {image.height}")


def check_classes(dataset: DiceDataset, findings: FindingCounter) -> None:
    """There is something to learn, and every class has its own id and name."""
    if all(declared.name == BACKGROUND for declared in dataset.classes):
        findings.add("DS003")
    for nameless in (declared for declared in dataset.classes if not declared.name.strip()):
        findings.add("DS016", f"id {nameless.id}")
    for name, count in _repeated(declared.name for declared in dataset.classes):
        findings.add("DS004", f"{name!r}, {count} times", count=count - 1)
    for class_id, count in _repeated(declared.id for declared in dataset.classes):
        findings.add("DS005", f"id {class_id}, {count} times", count=count - 1)
    alike: dict[str, set[str]] = defaultdict(set)
    for declared in dataset.classes:
        alike["".join(declared.name.split()).casefold()].add(declared.name)
    for names in (names for names in alike.values() if len(names) > 1):
        findings.add("DS017", ", ".join(map(repr, sorted(names))), count=len(names) - 1)


def check_boxes(seen: Seen, findings: FindingCounter) -> None:
    """The boxes are what they are taken for."""
    if seen.looks_like_corners:
        shares = f"{seen.boxes_leaving} of {seen.boxes} leave their image, {seen.boxes_as_corners} fit as corners"
        findings.add("DS044", shares)


def check_objects(objects: Objects, splits: Mapping[str, CocoSplit], task: Task, findings: FindingCounter) -> None:
    """Something usable is left for the task, ids are unique, and the objects are of a learnable kind."""
    if not learnable(objects.table, task).any():
        if {"DS026", "DS077"} & findings.codes:
            findings.add("DS027")
        elif task is Task.POSE and objects.seen.annotations and "DS060" not in findings:
            findings.add("DS064")
    _check_losses(objects, findings)
    for annotation_id, count in _repeated_ids([source.id for source in objects.sources]):
        findings.add("DS018", f"id {annotation_id}, {count} times", count=count - 1)
    sides = objects.table.bbox_xywh[:, 2:]
    extreme = int((sides.max(axis=1, initial=0) > EXTREME_ASPECT * sides.min(axis=1, initial=np.inf)).sum())
    if extreme:
        findings.add("DS047", count=extreme)
    _check_balance(objects, splits, findings)


def _check_losses(objects: Objects, findings: FindingCounter) -> None:
    """A few bad annotations are noise; many are a misunderstanding."""
    labelled = objects.seen.annotations
    lost = labelled - len(objects.table.id) - findings.count("DS019")
    if lost > labelled / 2 and lost >= FEW_LOST:
        findings.add("DS094", f"{lost} of {labelled}", count=lost)
    elif lost > labelled / 20 and lost >= FEW_LOST:
        findings.add("DS095", f"{lost} of {labelled}", count=lost)


def _check_balance(objects: Objects, splits: Mapping[str, CocoSplit], findings: FindingCounter) -> None:
    categories = splits["train"].categories
    counts = np.bincount(objects.table.category_id, minlength=len(categories))
    for category in categories:
        if 0 < counts[category.id] < RARE_SHARE * counts.max():
            findings.add("DS048", f"{category.name}: {counts[category.id]} of {counts.max()}")
    few = len(splits["train"].images)
    if 0 < few < FEW_IMAGES:
        findings.add("DS049", f"{few} images")


def learnable(objects: ObjectTable, task: Task) -> NDArray[np.bool_]:
    """Which objects are learned and scored: no crowds, and in pose estimation none without a labelled point."""
    return ~objects.iscrowd & ((objects.keypoints_labelled > 0) | (task is not Task.POSE))


def check_splits(
    splits: Mapping[str, CocoSplit],
    task: Task,
    in_masks: Mapping[str, set[int] | None],
    pixels: PixelClasses | None,
    findings: FindingCounter,
) -> None:
    """There is something to learn from, and every class is seen in train and in val.

    Args:
        in_masks: split -> the classes in its mask files, None where nobody looked.
    """
    used: dict[str, set[int]] = {}
    for name, split in splits.items():
        if (drawn := in_masks[name]) is None:
            return
        used[name] = drawn | set(np.unique(split.objects.category_id[learnable(split.objects, task)]).tolist())
        used[name].discard(-1 if pixels is None or pixels.background is None else pixels.background)
    if splits["train"].images and not used["train"] and not {"DS027", "DS064"} & findings.codes:
        findings.add("DS002")
    if splits["val"].images and used["train"] and not used["val"]:
        findings.add("DS043")
    for category in splits["train"].categories:
        if pixels is not None and category.id == pixels.background:
            continue
        if not any(category.id in ids for ids in used.values()):
            findings.add("DS040", category.name)
            continue
        for code, name in (("DS041", "train"), ("DS042", "val")):
            if splits[name].images and category.id not in used[name]:
                findings.add(code, category.name)


def _repeated(values: Iterable[int | str]) -> list[tuple[int | str, int]]:
    return [(value, count) for value, count in Counter(values).items() if count > 1]


def _repeated_ids(ids: Sequence[Id | None]) -> list[tuple[int | str, int]]:
    """A million numbers are counted in a column of 8 MB; only other ids need a dictionary of 100."""
    try:
        values, counts = np.unique(np.fromiter(ids, np.int64, len(ids)), return_counts=True)
    except (TypeError, ValueError, OverflowError):
        return _repeated(one for one in ids if one is not None)
    return list(zip(values[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True))
