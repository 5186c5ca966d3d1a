"""Where the files of a data set really lie; the annotations alone do not say (contract 4.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from converters import DiceDataset, image_key_candidates
from converters.layout import extra_files, file_name_problem, mask_key_candidates
from mmtrain.datasets.cache import MARKER, RECORD
from trainer_sdk.storage.partfile import PART_SUFFIX
from trainer_sdk.tasks import Task

ELSEWHERE = ".elsewhere/"
"""Below this the cache keeps objects that lie outside the data set's prefix."""

OURS = (MARKER, RECORD)
"""The cache's own notes on a data set."""

Exists = Callable[[str], bool]
"""Of an object key."""


def locate_images(dice: DiceDataset, prefix: str, bucket: str | None, exists: Exists) -> dict[str, str]:
    """File name as annotated -> path below the data set, in the order of the annotations, whatever a listing's order.

    A name that cannot be trusted as a path, or that leads to no object, has no entry. Files lie below the data set,
    except where their URI, or that of the images' folder, says otherwise.
    """
    return _located((image.file_name for image in dice.images), image_key_candidates, dice, prefix, bucket, exists)


def locate_masks(dice: DiceDataset, task: Task, prefix: str, bucket: str | None, exists: Exists) -> dict[str, str]:
    """The same for the masks that the task needs."""
    return _located(extra_files(dice, task), mask_key_candidates, dice, prefix, bucket, exists)


def locate_labels(names: Iterable[str], prefix: str, bucket: str | None, exists: Exists) -> dict[str, str]:
    """The same for the label files of v0.9, which lie below the data set as they are named, or at their URI."""
    found = {}
    for name in names:
        if path := _first(elsewhere(name, bucket) or (prefix + name.removeprefix("./"),), prefix, exists):
            found[name] = path
    return found


def _located(
    names: Iterable[str],
    candidates: Callable[[str, str | None, str], tuple[str, ...]],
    dice: DiceDataset,
    prefix: str,
    bucket: str | None,
    exists: Exists,
) -> dict[str, str]:
    image_root = (dice.storage_info or {}).get("image_root")
    anywhere = isinstance(image_root, str) and bool(elsewhere(image_root, bucket))
    found = {}
    for name in names:
        if name in found or file_name_problem(name):
            continue
        keys = elsewhere(name, bucket) or candidates(prefix, image_root, name)
        if path := _first((key for key in keys if anywhere or is_uri(name) or key.startswith(prefix)), prefix, exists):
            found[name] = path
    return found


def is_uri(name: str) -> bool:
    """Whether the name says where the object is, instead of where below the data set."""
    return name.startswith("s3://")


def elsewhere(name: str, bucket: str | None) -> tuple[str, ...]:
    """The key in an s3:// URI of the same bucket, or nothing."""
    start = f"s3://{bucket}/"
    return (name.removeprefix(start),) if bucket and name.startswith(start) else ()


def path_of(key: str, prefix: str) -> str:
    """Where the cache keeps an object, relative to its data set."""
    return key.removeprefix(prefix) if key.startswith(prefix) else ELSEWHERE + key


def key_of(path: str, prefix: str) -> str:
    """The object that the cache keeps there."""
    return path.removeprefix(ELSEWHERE) if path.startswith(ELSEWHERE) else prefix + path


def _first(keys: Iterable[str], prefix: str, exists: Exists) -> str | None:
    """S3 allows keys with '..', and an image root may hold one: no path leaves the data set folder."""
    paths = (path_of(key, prefix) for key in keys if not _is_ours(key, prefix) and exists(key))
    return next((path for path in paths if not file_name_problem(path)), None)


def _is_ours(key: str, prefix: str) -> bool:
    """Whether the cache has another use for the place where the object would come to lie."""
    path = key.removeprefix(prefix)
    return key.startswith(prefix) and (path in OURS or path.startswith(ELSEWHERE) or path.endswith(PART_SUFFIX))
