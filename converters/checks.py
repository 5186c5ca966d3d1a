"""Checks of a data set as a whole: before conversion its identity, after conversion its classes and splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from converters.coco import CocoDataset
from converters.dice import BACKGROUND, DiceDataset
from converters.dice_to_coco import Classes, label_fault
from converters.findings import FindingCounter
from converters.layout import file_name_problem, normal_file_name


def check_images(dataset: DiceDataset, findings: FindingCounter) -> None:
    """Images exist, can be told apart, stay inside their folder and have a size."""
    if not dataset.images:
        findings.add("DS001")
    for image_id, count in _repeated(str(image.id) for image in dataset.images):
        findings.add("DS008", f"id {image_id}, {count} times", count=count - 1)
    for name, count in _repeated(normal_file_name(image.file_name) for image in dataset.images if image.file_name):
        findings.add("DS009", f"{name}, {count} times", count=count - 1)
    for image in dataset.images:
        if problem := file_name_problem(image.file_name):
            findings.add("DS012", f"image {image.id}: {image.file_name!r} {problem}")
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


def check_labels(dataset: DiceDataset, classes: Classes, findings: FindingCounter) -> None:
    """Every annotation means exactly one declared class; equal mistakes are told once, with their number."""
    faults: Counter[tuple[str, str]] = Counter()
    for image in dataset.images:
        for annotation in image.annotations:
            if code := label_fault(annotation, classes):
                faults[code, f"class_id {annotation.class_id}, class_name {annotation.class_name!r}"] += 1
    for (code, label), count in faults.items():
        findings.add(code, f"{label}, {count} times", count=count)


def check_splits(splits: Mapping[str, CocoDataset], findings: FindingCounter) -> None:
    """There is something to learn from, and every class is seen in train and in val."""
    used = {name: {a.category_id for a in split.annotations} for name, split in splits.items()}
    if splits["train"].images and not used["train"] and "DS027" not in findings:
        findings.add("DS002")
    if splits["val"].images and used["train"] and not used["val"]:
        findings.add("DS043")
    for category in splits["train"].categories:
        if not any(category.id in ids for ids in used.values()):
            findings.add("DS040", category.name)
            continue
        for code, name in (("DS041", "train"), ("DS042", "val")):
            if splits[name].images and category.id not in used[name]:
                findings.add(code, category.name)


def _repeated(values: Iterable[int | str]) -> list[tuple[int | str, int]]:
    return [(value, count) for value, count in Counter(values).items() if count > 1]
