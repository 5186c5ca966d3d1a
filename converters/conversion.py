"""A whole data set from DICE to COCO: check, split, convert, write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from converters.checks import check_classes, check_images, check_labels, check_splits
from converters.coco import CocoAnnotation, CocoDataset, CocoImage, encode_coco
from converters.dice import DiceDataset, DiceImage, Id
from converters.dice_to_coco import (
    SHAPE_OF_TASK,
    Classes,
    LabelledObject,
    coco_categories,
    index_classes,
    labelled_objects,
)
from converters.findings import Finding, FindingCounter
from converters.split import SPLIT_NAMES, SplitName, resolve_split
from trainer_sdk.errors import ConfigError, DatasetError
from trainer_sdk.tasks import Task

ID_MAP_FILE = "id_map.json"


class OriginalClass(msgspec.Struct, frozen=True):
    """A class as the data set knows it."""

    id: int
    name: str


class OriginalImage(msgspec.Struct, frozen=True):
    """An image as the data set knows it, and the split it went to."""

    id: Id
    file_name: str
    split: SplitName


class IdMap(msgspec.Struct, frozen=True):
    """From our ids (class index, COCO image id, COCO annotation id) back to those of the data set."""

    classes: dict[int, OriginalClass]
    images: dict[int, OriginalImage]
    annotations: dict[int, Id | None]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A data set ready for training, unless `blocking` says otherwise; ``splits`` always has train, val and test."""

    class_names: tuple[str, ...]
    splits: dict[str, CocoDataset]
    id_map: IdMap
    findings: tuple[Finding, ...]
    split_reason: str

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """Findings that forbid training."""
        return tuple(finding for finding in self.findings if finding.severity == "blocks")

    def raise_if_blocked(self) -> None:
        """Raises one DatasetError that names every blocking finding with its remedy."""
        if self.blocking:
            problems = [f"{finding.text} - {finding.hint}" for finding in self.blocking]
            raise DatasetError.of_problems("The data set cannot be trained on", problems)


def convert(
    dataset: DiceDataset,
    task: Task,
    *,
    config_split: Mapping[str, Any] | None = None,
    snapshot: Mapping[str, Any] | None = None,
) -> Conversion:
    """The data set as COCO, split; never raises for what it finds in the data, see `Conversion.raise_if_blocked`.

    Raises:
        ConfigError: an unknown task, or a split request that makes no sense.
        DatasetError: the split configuration inside the annotation file makes no sense.
    """
    if task not in SHAPE_OF_TASK:
        raise ConfigError(f"No conversion for task {task!r}", hint=f"Known: {', '.join(SHAPE_OF_TASK)}")
    split = resolve_split(dataset, config_split, snapshot)
    findings = FindingCounter((*dataset.findings, *split.findings))
    check_images(dataset, findings)
    check_classes(dataset, findings)
    classes = index_classes(dataset.classes)
    check_labels(dataset, classes, findings)
    splits, id_map = _convert_images(dataset, task, classes, split.of_image, findings)
    if "DS026" in findings and not id_map.annotations:
        findings.add("DS027")
    check_splits(splits, findings)
    names = tuple(declared.name for declared in classes.declared)
    return Conversion(names, splits, id_map, findings.findings, split.reason)


def write_conversion(conversion: Conversion, folder: Path) -> None:
    """Writes train.json, val.json, test.json and, last, id_map.json; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in conversion.splits.items():
        _write_atomically(folder / f"{name}.json", encode_coco(split))
    _write_atomically(folder / ID_MAP_FILE, msgspec.json.encode(conversion.id_map))


def _convert_images(
    dataset: DiceDataset, task: Task, classes: Classes, of_image: tuple[SplitName | None, ...], findings: FindingCounter
) -> tuple[dict[str, CocoDataset], IdMap]:
    splits: dict[str, CocoDataset] = {name: _empty_split(dataset, classes, name) for name in SPLIT_NAMES}
    id_map = IdMap({index: OriginalClass(one.id, one.name) for index, one in enumerate(classes.declared)}, {}, {})
    for image, name in zip(dataset.images, of_image, strict=True):
        if name is None:
            continue
        image_id = len(id_map.images) + 1
        id_map.images[image_id] = OriginalImage(image.id, image.file_name, name)
        splits[name].images.append(_coco_image(image, image_id))
        for labelled in labelled_objects(image, classes, SHAPE_OF_TASK[task], findings):
            annotation_id = len(id_map.annotations) + 1
            id_map.annotations[annotation_id] = labelled.original_id
            splits[name].annotations.append(_coco_annotation(labelled, annotation_id, image_id))
    return splits, id_map


def _empty_split(dataset: DiceDataset, classes: Classes, name: str) -> CocoDataset:
    description = f"{name} split of data set {dataset.dataset_id or '(no id)'}"
    return CocoDataset({"description": description}, [], [], coco_categories(classes))


def _coco_image(image: DiceImage, image_id: int) -> CocoImage:
    return CocoImage(image_id, image.file_name, image.width, image.height)


def _coco_annotation(labelled: LabelledObject, annotation_id: int, image_id: int) -> CocoAnnotation:
    return CocoAnnotation(
        id=annotation_id,
        image_id=image_id,
        category_id=labelled.class_index,
        bbox=labelled.shape.bbox_xywh,
        area=labelled.shape.area,
        iscrowd=int(labelled.iscrowd),
        segmentation=labelled.shape.segmentation,
    )


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
