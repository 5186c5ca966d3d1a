"""A whole data set from DICE to COCO: check, split, convert, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from converters.checks import check_boxes, check_classes, check_images, check_objects, check_splits
from converters.coco import CocoCategory, CocoImage, CocoSplit, write_coco
from converters.collection import collection_paused
from converters.dice import DiceDataset, Id
from converters.dice_to_coco import SHAPE_OF_TASK, Classes, coco_categories, index_classes
from converters.findings import Finding, FindingCounter, blocking, refuse_blocked
from converters.keypoints import KeypointSchema
from converters.labels import read_labels
from converters.mask_list import MASKS, write_mask_list
from converters.objects import Objects, read_objects
from converters.pose_files import write_pose_files
from converters.schema import resolve_schema
from converters.semantic import (
    BACKGROUND_CLASS,
    Masks,
    PixelClasses,
    check_class_numbers,
    check_masks,
    classes_in_masks,
    pixel_classes,
    write_masks,
)
from converters.shape_columns import WITH_MASKS, Seen
from converters.split import SPLIT_NAMES, SplitName, resolve_split
from converters.used import UsedImage, used_images
from converters.whole_file import write_whole
from trainer_sdk.errors import ConfigError
from trainer_sdk.tasks import Task

ID_MAP_FILE = "id_map.json"


class OriginalClass(msgspec.Struct, frozen=True):
    """A class as the data set knows it; no id for one that was added here."""

    id: int | None
    name: str


class OriginalImage(msgspec.Struct, frozen=True):
    """An image as the data set knows it, and the split it went to."""

    id: Id
    file_name: str
    split: SplitName


class IdMap(msgspec.Struct, frozen=True):
    """From our ids back to those of the data set; entry i of ``annotations`` belongs to annotation i + 1."""

    classes: dict[int, OriginalClass]
    images: dict[int, OriginalImage]
    annotations: list[Id | None]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A data set ready for training, unless `blocking` says otherwise; ``splits`` always has train, val and test."""

    task: Task
    class_names: tuple[str, ...]
    splits: dict[str, CocoSplit]
    id_map: IdMap
    findings: tuple[Finding, ...]
    split_reason: str
    seen: Seen
    keypoints: KeypointSchema | None = None
    pixels: PixelClasses | None = None
    mask_files: Mapping[int, str] | None = None
    """COCO image id -> mask file of the data set; semantic segmentation only."""

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """Findings that forbid training."""
        return blocking(self.findings)

    def raise_if_blocked(self) -> None:
        """Raises: DatasetError."""
        refuse_blocked(self.findings)


@collection_paused()
def convert(
    dataset: DiceDataset,
    task: Task,
    *,
    config_split: Mapping[str, Any] | None = None,
    snapshot: Mapping[str, Any] | None = None,
    keypoints: Mapping[str, Any] | None = None,
    masks: Masks | None = None,
    left_out: frozenset[str] = frozenset(),
) -> Conversion:
    """The data set as COCO, split; never raises for what it finds in the data, see `Conversion.raise_if_blocked`.

    Args:
        keypoints: names, skeleton and flip pairs where the data set does not say them (CONFIG.keypoints).
        left_out: file names of images that are used nowhere; the split is made as if they were there.
        masks: what was seen in semantic masks, by file name; those without an entry are believed.

    Raises:
        ConfigError: an unknown task, or a request for split or keypoints that makes no sense.
        DatasetError: the split configuration inside the annotation file makes no sense.
    """
    if task not in SHAPE_OF_TASK:
        raise ConfigError(f"No conversion for task {task!r}", hint=f"Known: {', '.join(SHAPE_OF_TASK)}")
    task = Task(task)  # text that is equal is not the same object
    split = resolve_split(dataset, config_split, snapshot)
    findings = FindingCounter((*dataset.findings, *split.findings))
    check_images(dataset, findings)
    check_classes(dataset, findings)
    classes = index_classes(dataset.classes)
    labels = read_labels(dataset, classes, findings)
    names = (image.file_name for image in dataset.images)
    of_image = [None if name in left_out else found for name, found in zip(names, split.of_image, strict=True)]
    used = used_images(dataset, of_image, labels, task, findings)
    schema = resolve_schema(dataset, keypoints, findings) if task is Task.POSE else None
    pixels = None
    if task is Task.SEMANTIC:
        pixels = pixel_classes([one.image for one in used], classes, masks or {})
        check_masks([one.image for one in used], pixels, masks or {}, findings)
        check_class_numbers(classes, pixels, masks or {}, findings)
    objects = read_objects(used, labels, task, len(schema.names) if schema else 0, findings)
    check_boxes(objects.seen, findings)
    categories = [*coco_categories(classes, schema), *_background(pixels)]
    splits = _splits(dataset, task, used, objects, categories)
    check_objects(objects, splits, task, findings)
    check_splits(splits, task, _in_masks(used, pixels, masks or {}), pixels, findings)
    return Conversion(
        task=task,
        class_names=tuple(category.name for category in categories),
        splits=splits,
        id_map=_id_map(classes, categories, used, objects),
        findings=findings.findings,
        split_reason=split.reason,
        seen=objects.seen,
        keypoints=schema,
        pixels=pixels,
        mask_files={one.id: one.image.mask_file for one in used if one.image.mask_file} if pixels else None,
    )


@collection_paused()
def write_conversion(conversion: Conversion, folder: Path, locate: Callable[[str], Path] | None = None) -> None:
    """Writes train.json, val.json, test.json and, last, id_map.json; each file appears whole or not at all.

    Semantic segmentation writes its masks too, and lists of them, below ``masks/``; pose estimation what MMPose reads
    besides (`pose_files`).

    Args:
        locate: mask file of the data set -> path; only semantic segmentation needs it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in conversion.splits.items():
        if conversion.pixels is not None:
            write_masks(split, conversion.mask_files or {}, conversion.pixels, locate or Path, folder)
            write_mask_list(split, conversion.class_names, folder / MASKS / f"{name}.json")
        write_coco(split, folder / f"{name}.json")
    if conversion.keypoints is not None:
        write_pose_files(conversion.splits, conversion.keypoints, folder)
    write_whole(folder / ID_MAP_FILE, [msgspec.json.encode(conversion.id_map)])


def _in_masks(used: list[UsedImage], pixels: PixelClasses | None, masks: Masks) -> dict[str, set[int] | None]:
    if pixels is None:
        return {name: set() for name in SPLIT_NAMES}
    return {
        name: classes_in_masks([one.image for one in used if one.split == name], pixels, masks) for name in SPLIT_NAMES
    }


def _background(pixels: PixelClasses | None) -> list[CocoCategory]:
    if pixels is None or pixels.background is None:
        return []
    return [CocoCategory(pixels.background, BACKGROUND_CLASS, "")]


def _splits(
    dataset: DiceDataset, task: Task, used: list[UsedImage], objects: Objects, categories: list[CocoCategory]
) -> dict[str, CocoSplit]:
    splits: dict[str, CocoSplit] = {}
    for name in SPLIT_NAMES:
        rows = objects.rows_of([one.id for one in used if one.split == name])
        splits[name] = CocoSplit(
            info={"description": f"{name} split of data set {dataset.dataset_id or '(no id)'}"},
            images=[_coco_image(one, task) for one in used if one.split == name],
            categories=categories,
            objects=objects.table.take(rows),
            sources=[objects.sources[row] for row in rows],
            segmentations=objects.segmentations if task in WITH_MASKS else None,
        )
    return splits


def _coco_image(used: UsedImage, task: Task) -> CocoImage:
    mask = f"{MASKS}/{used.id:06d}.png" if task is Task.SEMANTIC else None
    return CocoImage(used.id, used.image.file_name, used.image.width, used.image.height, mask)


def _id_map(classes: Classes, categories: list[CocoCategory], used: list[UsedImage], objects: Objects) -> IdMap:
    ids: list[int | None] = [one.id for one in classes.declared]
    ids += [None] * (len(categories) - len(ids))
    return IdMap(
        classes={one.id: OriginalClass(class_id, one.name) for one, class_id in zip(categories, ids, strict=True)},
        images={one.id: OriginalImage(one.image.id, one.image.file_name, one.split) for one in used},
        annotations=[source.id for source in objects.sources],
    )
