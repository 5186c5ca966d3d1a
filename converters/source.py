"""A data set on this disk, whatever form it has: a folder, or one annotation file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converters.coco_to_dice import coco_files, coco_to_dice, image_folders, task_of_coco
from converters.dice import DiceDataset
from converters.dice_reader import read_dice
from converters.dice_v09 import LABEL_MAP_FILE, read_v09_folder
from converters.layout import (
    ANNOTATION_FILES,
    OLD_ANNOTATION_FILE,
    annotation_file_names,
    file_name_problem,
    mask_key_candidates,
)
from converters.partition import SplitName
from trainer_sdk.errors import DatasetError
from trainer_sdk.tasks import TASK_ALIASES, Task


@dataclass(frozen=True, slots=True)
class LocalSource:
    """What was read, and for which task."""

    dataset: DiceDataset
    task: Task
    root: Path
    """The folder that file names are relative to."""


def read_source(source: Path, task: Task | None) -> LocalSource:
    """The data set at a path; without a task, the one its file names.

    Raises:
        DatasetError: nothing there, or not readable.
    """
    if v09 := _v09_folder(source):
        dataset, root = read_v09_folder(v09), v09
    elif path := _annotation_file(source, task):
        dataset, root = read_dice(path.read_bytes()), path.parent
    else:
        files = _coco_files(source, task)
        raws = {split: path.read_bytes() for split, path in files.items()}
        dataset, root = coco_to_dice(raws, folders=image_folders(files, source)), source
        task = task or task_of_coco(dataset)
    return LocalSource(dataset, task or TASK_ALIASES.get(dataset.task_type or "", Task.DETECTION), root)


def mask_path(root: Path, mask_file: str) -> Path | None:
    """Where a semantic mask lies; None for nowhere, or for a name that leaves the folder."""
    if file_name_problem(mask_file):
        return None
    paths = (root / key for key in mask_key_candidates("", None, mask_file))
    return next((path for path in paths if path.is_file()), None)


def _v09_folder(source: Path) -> Path | None:
    """The folder of a v0.9 data set, unless newer annotation files lie in it too."""
    if source.name == LABEL_MAP_FILE:
        return source.parent
    newer = any((source / name).is_file() for name in _all_annotation_files())
    return source if (source / LABEL_MAP_FILE).is_file() and not newer else None


def _annotation_file(source: Path, task: Task | None) -> Path | None:
    if source.is_file():
        return source
    names = annotation_file_names(task) if task else _all_annotation_files()
    return next((path for name in names if (path := source / name).is_file()), None)


def _coco_files(source: Path, task: Task | None) -> dict[SplitName | None, Path]:
    try:
        return coco_files(source)
    except DatasetError as error:
        names = ", ".join(dict.fromkeys(annotation_file_names(task) if task else _all_annotation_files()))
        raise DatasetError(
            f"No annotations at {source}: looked for {names}, {LABEL_MAP_FILE}, COCO files. {error.message}",
            hint="Give a data set folder or a JSON file.",
        ) from error


def _all_annotation_files() -> list[str]:
    return [*(name for names in ANNOTATION_FILES.values() for name in names), OLD_ANNOTATION_FILE]
