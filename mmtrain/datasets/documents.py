"""What describes a data set: its annotation files, or the files of the ancestor format v0.9."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from converters import DiceDataset, annotation_file_names, read_dice
from converters.dice_v09 import LABEL_MAP_FILE, read_v09
from converters.layout import OLD_ANNOTATION_FILE
from trainer_sdk.errors import DatasetError
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.tasks import Task

RICHEST_FIRST = (Task.POSE, Task.INSTANCE, Task.SEMANTIC, Task.DETECTION)
"""Whose annotations to take when nobody names a task: what has masks has boxes too."""
NOTHING_SHA256 = hashlib.sha256().hexdigest()
"""What the backend computes where there is no annotations*.json."""


class _Entry(msgspec.Struct):
    label_path: str | None = None


class _LabelMap(msgspec.Struct):
    data_summary: list[_Entry]


def document_name(present: Iterable[str], task: Task | None, where: str) -> str:
    """The file to begin with.

    Args:
        present: paths below the data set.
        task: decides between annotation files, None for the richest; a label map is taken when there is none of them.
        where: the data set, for the error.

    Raises:
        DatasetError: there is no such file.
    """
    tasks = RICHEST_FIRST if task is None else (task,)
    present, wanted = set(present), [name for one in tasks for name in annotation_file_names(one.value)]
    wanted.sort(key=OLD_ANNOTATION_FILE.__eq__)  # it may be for any task: last
    for name in (*wanted, LABEL_MAP_FILE):
        if name in present:
            return name
    found = ", ".join(sorted(name for name in present if name.endswith(".json") and "/" not in name)[:10])
    sought, looked_for = (task.value if task else "any task"), ", ".join(dict.fromkeys(wanted))
    raise DatasetError(
        f"no annotations for {sought} at {where}: looked for {looked_for}; found {found or 'no JSON file'}",
        hint="export the data set for this task, or choose a model for the task it has; "
        "COCO files become a data set by `python -m converters FOLDER FOLDER --to dice`",
    )


def is_annotation_file(path: str) -> bool:
    """Whether the version of a data set covers it."""
    name = path.rpartition("/")[2]
    return name.startswith("annotations") and name.endswith(".json")


def label_files(raw: bytes) -> list[str]:
    """What a label map names, as it spells it, each once: paths below the data set, or s3:// URIs.

    Raises:
        DatasetError: it is no label map.
    """
    try:
        entries = msgspec.json.decode(raw, type=_LabelMap).data_summary
    except msgspec.MsgspecError as error:
        raise DatasetError(f"{LABEL_MAP_FILE} cannot be read: {error}", hint="export the data set again") from error
    return list(dict.fromkeys(entry.label_path for entry in entries if entry.label_path))


def version_hash(documents: Mapping[str, bytes]) -> str:
    """sha256 over the bytes of every document in the order of their names: contract 4.5 for annotations*.json."""
    digest = hashlib.sha256()
    for name in sorted(documents):
        digest.update(documents[name])
    return digest.hexdigest()


def check_version(ref: DatasetRef, sha256: str) -> None:
    """Raises: DatasetError, when the job was made for another version."""
    if ref.version_hash not in (None, NOTHING_SHA256, sha256):
        raise DatasetError(
            f"the annotations of {ref.id} changed since the job was made: "
            f"DATASET_VERSION_HASH is {ref.version_hash}, found {sha256}",
            hint="start a new job, which takes a new snapshot",
        )


def read_documents(name: str, documents: Mapping[str, bytes]) -> DiceDataset:
    """The data set that the documents describe.

    Args:
        name: the document to begin with.
        documents: it, and what it names, by the names that it uses; what could not be found is not among them.
    """
    return read_v09(documents[name], documents.get) if name == LABEL_MAP_FILE else read_dice(documents[name])
