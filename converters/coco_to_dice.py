"""From COCO files back to one DICE data set: of any origin, or written by `conversion.py`.

Several files become one data set whose images say their split. Our own files come with ``id_map.json``, which restores
ids, classes and order as the author had them. Of other files, image ids (and annotation ids) are kept if no two files
share one; if they do, as exports do that count from 0 in every split, all are numbered from 1 in order of files.
Categories are the same in all files of a data set; files that contradict each other are refused.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from converters.collection import collection_paused
from converters.conversion import ID_MAP_FILE, IdMap
from converters.dice import DiceAnnotation, DiceClass, DiceDataset, DiceImage
from converters.dice_reader import read_dice
from converters.dice_writer import write_dice
from converters.findings import FindingCounter
from converters.layout import OLD_ANNOTATION_FILE, extra_files, file_name_problem
from converters.split import SPLIT_NAMES, SplitName
from trainer_sdk.errors import DatasetError
from trainer_sdk.tasks import Task

_SPLIT_IN_NAME: dict[SplitName, str] = {"train": r"train", "val": r"val(?!ue)", "test": r"test"}


def coco_files(source: Path) -> dict[SplitName | None, Path]:
    """The COCO files at a path: one file, or those of a folder whose paths contain train, val (valid) and test.

    Raises:
        DatasetError: none, or two that may be the same split.
    """
    if source.is_file():
        return {None: source}
    found: dict[SplitName | None, Path] = {}
    for name in SPLIT_NAMES:
        exact = source / f"{name}.json"
        paths = [exact] if exact.is_file() else _similar(source, name)
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise DatasetError(f"Several files may be the {name} split: {names}", hint="Leave one, or name the file.")
        found |= dict(zip([name], paths, strict=False))
    if not found and (source / OLD_ANNOTATION_FILE).is_file():
        return {None: source / OLD_ANNOTATION_FILE}
    if not found:
        raise DatasetError(f"No COCO file at {source}", hint="Give a file, or a folder with train.json and val.json.")
    return found


def image_folders(files: Mapping[SplitName | None, Path], source: Path) -> dict[SplitName | None, str]:
    """Where every split has its images in a folder of its own, that folder.

    ``train/_annotations.coco.json`` lies beside them, ``annotations/instances_train2017.json`` names ``train2017/``.
    """
    folders: dict[SplitName | None, str] = {}
    for split, path in files.items():
        named = path.stem.rpartition("_")[2]
        if split and path.parent != source and re.search(_SPLIT_IN_NAME[split], path.parent.name.lower()):
            folders[split] = path.parent.relative_to(source).as_posix()
        elif split and (source / named).is_dir():
            folders[split] = named
    return folders


def _similar(source: Path, name: SplitName) -> list[Path]:
    paths = sorted([*source.glob("*.json"), *source.glob("*/*.json")])
    return [p for p in paths if re.search(_SPLIT_IN_NAME[name], p.relative_to(source).as_posix().lower())]


@collection_paused()
def coco_to_dice(
    sources: Mapping[SplitName | None, bytes],
    *,
    id_map: bytes | None = None,
    folders: Mapping[SplitName | None, str] | None = None,
) -> DiceDataset:
    """One data set of all files, in the order given; `dice_writer.py` writes it.

    Args:
        sources: split -> COCO file; None for a file that is not of one split.
        id_map: what `write_conversion` wrote beside the files.
        folders: split -> folder that its file names are relative to (``train2017``), where each has its own.

    Raises:
        DatasetError: not COCO, an image id twice in one file, categories that differ, or an id map of other files.
    """
    parts = {split: read_dice(raw) for split, raw in sources.items()}
    for split, part in parts.items():
        _refuse_repeated_ids(part.images, split)
    findings = FindingCounter(chain.from_iterable(part.findings for part in parts.values()))
    merged = DiceDataset(
        dataset_id=next((part.dataset_id for part in parts.values() if part.dataset_id), None),
        task_type=next((part.task_type for part in parts.values() if part.task_type), None),
        classes=_merged_classes([part.classes for part in parts.values()]),
        images=tuple(
            replace(image, split=split or image.split, file_name=_joined((folders or {}).get(split), image.file_name))
            for split, part in parts.items()
            for image in part.images
        ),
        findings=findings.findings,
    )
    return _with_unique_ids(merged) if id_map is None else _restored(merged, _read_id_map(id_map))


def coco_folder_to_dice(source: Path, out_dir: Path, task: Task | None = None, **header: Any) -> Path:
    """Everything from COCO files on disk to a DICE file on disk, semantic masks beside it; images stay where they are.

    Args:
        source: what `coco_files` takes; an ``id_map.json`` in it is used.
        task: names the file; without it, `task_of_coco`.
        header: as `encode_dice` has it.

    Returns:
        The annotation file.
    """
    files = coco_files(source)
    id_map = source / ID_MAP_FILE
    dataset = coco_to_dice(
        {split: path.read_bytes() for split, path in files.items()},
        id_map=id_map.read_bytes() if id_map.is_file() else None,
        folders=image_folders(files, source),
    )
    task = task or task_of_coco(dataset)
    for name in extra_files(dataset, task):
        _copy_below(source if source.is_dir() else source.parent, out_dir, name)
    return write_dice(dataset, task, out_dir, **header)


def _copy_below(source: Path, out_dir: Path, name: str) -> None:
    """A mask that is missing is told when the data set is converted again (DS070)."""
    if problem := file_name_problem(name):
        raise DatasetError(f"Mask file name {name!r} {problem}")
    if (source / name).is_file() and source.resolve() != out_dir.resolve():
        (out_dir / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, out_dir / name)


def task_of_coco(dataset: DiceDataset) -> Task:
    """The task with the richest labels that a COCO data set has."""
    if any(image.mask_file for image in dataset.images):
        return Task.SEMANTIC
    if any(declared.keypoints for declared in dataset.classes):
        return Task.POSE
    annotations = chain.from_iterable(image.annotations for image in dataset.images)
    masked = (one for one in annotations if b'"segmentation"' in bytes(one.json))
    return Task.INSTANCE if any(one.geometry.segmentation for one in masked) else Task.DETECTION


def _refuse_repeated_ids(images: Sequence[DiceImage], split: SplitName | None) -> None:
    repeated = [image_id for image_id, number in Counter(str(image.id) for image in images).items() if number > 1]
    if repeated:
        found = f"{len(repeated)} image ids occur more than once: {', '.join(repeated[:5])}"
        where = f" in the {split} file" if split else ""
        raise DatasetError(f"{found}{where}", hint="Annotations name their image by its id: give each its own.")


def _merged_classes(lists: Iterable[Sequence[DiceClass]]) -> tuple[DiceClass, ...]:
    """All classes in order of first mention; the same id must mean the same name, and the other way round."""
    by_id: dict[int, DiceClass] = {}
    id_of_name: dict[str, int] = {}
    for declared in chain.from_iterable(lists):
        known = by_id.setdefault(declared.id, declared)
        known_id = id_of_name.setdefault(declared.name, declared.id)
        if known.name != declared.name or known_id != declared.id:
            found = f"id {declared.id} is {known.name!r} and {declared.name!r}"
            if known_id != declared.id:
                found = f"{declared.name!r} has ids {known_id} and {declared.id}"
            raise DatasetError(f"Categories contradict each other: {found}", hint="Give all files the same categories.")
    return tuple(by_id.values())


def _joined(folder: str | None, file_name: str) -> str:
    return f"{folder.rstrip('/')}/{file_name}" if folder and file_name else file_name


def _with_unique_ids(dataset: DiceDataset) -> DiceDataset:
    images: Iterable[DiceImage] = dataset.images
    if len({str(image.id) for image in dataset.images}) < len(dataset.images):
        images = (replace(image, id=number) for number, image in enumerate(dataset.images, start=1))
    ids = [one.id for image in dataset.images for one in image.annotations]
    if None in ids or len(set(ids)) < len(ids):
        numbers = count(1)
        images = (_renumbered(image, numbers) for image in images)
    return replace(dataset, images=tuple(images))


def _renumbered(image: DiceImage, numbers: Iterable[int]) -> DiceImage:
    annotations = zip(image.annotations, numbers, strict=False)  # the annotations first: they end, the numbers do not
    return replace(image, annotations=tuple(replace(one, id=number) for one, number in annotations))


def _read_id_map(raw: bytes) -> IdMap:
    try:
        return msgspec.json.decode(raw, type=IdMap)
    except ValueError as error:
        raise DatasetError(f"{ID_MAP_FILE} is not one of ours: {error}", hint="Restore or remove it.") from error


def _restored(dataset: DiceDataset, id_map: IdMap) -> DiceDataset:
    """Ids, classes and order of the data set that was converted.

    Classes stay as they are where there are mask files: those hold our class indices.
    """
    has_masks = any(image.mask_file for image in dataset.images)
    class_ids = {} if has_masks else {index: original.id for index, original in id_map.classes.items()}
    try:
        ordered = sorted(dataset.images, key=lambda image: int(image.id))
        images = tuple(_restored_image(image, id_map, class_ids) for image in ordered)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DatasetError(
            f"{ID_MAP_FILE} does not belong to these files: it lacks {error}", hint="Restore or remove it."
        ) from error
    classes = (replace(one, id=class_ids.get(one.id, one.id)) for one in dataset.classes)
    return replace(dataset, classes=tuple(one for one in classes if one.id is not None), images=images)


def _restored_image(image: DiceImage, id_map: IdMap, class_ids: Mapping[int, int | None]) -> DiceImage:
    original = id_map.images[int(image.id)]
    return replace(
        image,
        id=original.id,
        split=image.split or original.split,
        annotations=tuple(_restored_annotation(one, id_map, class_ids) for one in image.annotations),
    )


def _restored_annotation(
    annotation: DiceAnnotation, id_map: IdMap, class_ids: Mapping[int, int | None]
) -> DiceAnnotation:
    number = int(annotation.id or 0)
    if number < 1:
        raise IndexError(f"annotation {annotation.id}")
    class_id = annotation.class_id
    return replace(
        annotation,
        id=id_map.annotations[number - 1],
        class_id=None if class_id is None else class_ids.get(class_id, class_id),
    )
