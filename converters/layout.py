"""Where a data set keeps its files: names of annotation files and possible object keys of an image."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from converters.dice import DiceDataset
from trainer_sdk.errors import ConfigError, DatasetError
from trainer_sdk.tasks import Task

OLD_ANNOTATION_FILE = "annotations.json"

ANNOTATION_FILES: dict[str, tuple[str, ...]] = {
    "detection": ("annotations_detection.json",),
    "object_detection": ("annotations_detection.json",),
    "segmentation": ("annotations_segmentation.json",),
    "instance_segmentation": ("annotations_segmentation.json",),
    # The labeler writes the first; the platform's SDK looks for the second.
    "semantic_segmentation": ("annotations_segmentation.json", "annotations_semantic_segmentation.json"),
    "classification": ("annotations_classification.json",),
    "image_classification": ("annotations_classification.json",),
    "pose": ("annotations_pose.json",),
    "pose_estimation": ("annotations_pose.json",),
}


def annotation_file_names(task: str) -> tuple[str, ...]:
    """Names to look for in the data set folder, best first; short and canonical task names are known."""
    if task not in ANNOTATION_FILES:
        raise ConfigError(f"Unknown task {task!r}", hint=f"Known tasks: {', '.join(ANNOTATION_FILES)}")
    return (*ANNOTATION_FILES[task], OLD_ANNOTATION_FILE)


def image_key_candidates(dataset_prefix: str, image_root: str | None, file_name: str) -> tuple[str, ...]:
    """Object keys at which an image may lie, best first, each once.

    File names may or may not repeat the ``images/`` that ``image_root`` ends with, and really doubled folders
    (``images/images/``) exist, so only a look at the storage decides.

    Args:
        dataset_prefix: ``datasets/<id>``, with or without a slash at the end.
        image_root: ``storage_info.image_root``; a key prefix, or an ``s3://bucket/prefix`` of the same bucket.
        file_name: as in the annotation file, relative.
    """
    if problem := file_name_problem(file_name):
        raise DatasetError(f"Image file name {file_name!r} {problem}")
    prefix = _folder(dataset_prefix)
    root = _folder(re.sub(r"^s3://[^/]*/?", "", image_root or "")) or f"{prefix}images/"
    keys = (root + file_name, prefix + file_name, f"{prefix}images/{file_name}")
    return tuple(dict.fromkeys(keys))


def mask_key_candidates(dataset_prefix: str, image_root: str | None, mask_file: str) -> tuple[str, ...]:
    """Object keys at which a semantic mask may lie, best first, each once.

    Args:
        dataset_prefix: ``datasets/<id>``, with or without a slash at the end.
        image_root: as in `image_key_candidates`; masks may lie below it or in ``masks/`` beside it.
        mask_file: relative, with or without ``masks/`` or the data set's prefix, or ``s3://`` of the same bucket.

    Raises:
        DatasetError: the name leaves the data set folder.
    """
    prefix, given = _folder(dataset_prefix), file_key_candidates(dataset_prefix, mask_file)
    key = re.sub(r"^s3://[^/]*/", "", mask_file)
    root = _folder(re.sub(r"^s3://[^/]*/?", "", image_root or "")) or f"{prefix}images/"
    beside = _folder(str(PurePosixPath(root).parent / "masks"))
    keys = (*given, f"{prefix}masks/{key}", beside + key, root + key)
    return tuple(dict.fromkeys(keys))


def file_key_candidates(dataset_prefix: str, path: str) -> tuple[str, ...]:
    """Object keys of a file that a v0.9 label map names: relative, or ``s3://`` of the same bucket.

    Raises:
        DatasetError: the path leaves the data set folder.
    """
    if problem := file_name_problem(path):
        raise DatasetError(f"File name {path!r} {problem}")
    key, prefix = re.sub(r"^s3://[^/]*/", "", path), _folder(dataset_prefix)
    whole = (key,) if key != path or (prefix and key.startswith(prefix)) else ()
    return tuple(dict.fromkeys((*whole, prefix + key)))


def extra_files(dataset: DiceDataset, task: str) -> list[str]:
    """The files that a task needs besides the images, each once, as the annotation file names them: semantic masks."""
    if task != Task.SEMANTIC:
        return []
    return list(dict.fromkeys(image.mask_file for image in dataset.images if image.mask_file))


def file_name_problem(file_name: str | None) -> str:
    """Why a file name cannot be trusted as a path below the data set folder; empty if it can."""
    if not file_name or not file_name.strip():
        return "is missing"
    if "\0" in file_name:
        return "contains a null character"
    windows = PureWindowsPath(file_name)  # also splits at slashes, so it sees everything the posix flavour sees
    if file_name.startswith(("/", "\\")) or windows.drive:
        return "is absolute"
    return "leaves the data set folder" if ".." in windows.parts else ""


def normal_file_name(file_name: str) -> str:
    """One spelling per file, for comparison: ``./a//b.jpg`` and ``a/b.jpg`` are the same."""
    return str(PurePosixPath(file_name))


def _folder(key: str) -> str:
    key = key.strip("/")
    return f"{key}/" if key else ""
