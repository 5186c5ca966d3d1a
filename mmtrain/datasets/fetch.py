"""Brings a data set to this machine: a local folder as it is, a bucket's prefix into a cache keyed by its content.

source.py      a folder or a bucket's prefix
documents.py   what describes the data set, and its version
locate.py      where its files lie
cache.py       the cache: who uses what, and who has to leave
download.py    objects into the cache
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from converters import DiceDataset
from converters.dice_v09 import LABEL_MAP_FILE
from mmtrain.datasets.cache import CacheEntry, entry_name, make_room
from mmtrain.datasets.documents import (
    check_version,
    document_name,
    is_annotation_file,
    label_files,
    read_documents,
    version_hash,
)
from mmtrain.datasets.download import Report, download, naming_write_errors, outdated
from mmtrain.datasets.locate import key_of, locate_images, locate_labels, locate_masks
from mmtrain.datasets.source import BucketSource, FolderSource, Source
from trainer_sdk.errors import DatasetError
from trainer_sdk.failures.preconditions import lack_of_disk
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.settings import Settings
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import MissingObject, Storage, StoredObject
from trainer_sdk.tasks import Task

NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class FetchedDataset:
    """A data set whose files are known, and on this machine, except for images that were only located."""

    root: Path
    """Paths are below this; the folder may not exist when nothing had to be downloaded."""
    dice: DiceDataset
    sha256: str
    """Over the bytes of every annotations*.json below the data set, in key order (contract 4.5)."""
    image_paths: dict[str, str]
    """File name as annotated -> path below `root`, in the order of the annotations; a name without an entry has no
    file."""
    other_paths: dict[str, str]
    """The same for masks, and for the documents of a v0.9 data set."""
    bucket: str | None
    """None: a local folder."""
    prefix: str
    """Of the object keys, also where a folder plays a bucket; ends with '/'."""

    def mask_path(self, mask_file: str) -> Path:
        """Where a semantic mask is on this machine."""
        return self.root / self.other_paths[mask_file]

    def key(self, path: str) -> str:
        """The object behind a path of `image_paths` or `other_paths`."""
        return key_of(path, self.prefix)


def fetch(
    ref: DatasetRef,
    task: Task | None,
    settings: Settings,
    report: Report,
    *,
    download_images: bool = True,
    beside: Mapping[str, int] = NOTHING,
) -> FetchedDataset:
    """The data set of a job, or an error that says what is missing; an image that has no file is only not there.

    What it takes from the cache stays there until this process ends. The same on every node of a job.

    Args:
        task: which of several annotation files; None takes the one with the richest labels.
        download_images: False only locates them: `FetchedDataset.key` leads from a path to its object.
        report: called with (files done, files in all).
        beside: bytes that the job will need below WORKSPACE_DIR, by what they are for: they count on the same disk.

    Raises:
        DatasetError: no such data set, no annotations for the task, unreadable or changed annotations.
        NetworkError: the storage cannot be reached, refuses us, or sends damaged data.
        ResourceError: the cache cannot be written, or its disk is full.
    """
    if ref.path is not None:
        root = Path(ref.path)
        return _located(ref, FolderSource(root, f"datasets/{ref.id}/", settings.dataset_links_to), task, root.resolve())
    assert ref.prefix is not None
    storage = open_storage(settings.datasets, ref.bucket)
    source = BucketSource(storage, ref.bucket or settings.datasets.bucket, ref.prefix)
    located = _located(ref, source, task, settings.dataset_cache_dir)
    paths = (*located.other_paths.values(), *(located.image_paths.values() if download_images else ()))
    objects = {path: found for path in paths if (found := source.find(located.key(path)))}
    gone = _complete(located, objects, storage, settings, report, beside) if paths else set()
    return replace(
        located,
        image_paths={name: path for name, path in located.image_paths.items() if path not in gone},
        other_paths={name: path for name, path in located.other_paths.items() if path not in gone},
    )


def read_snapshot(ref: DatasetRef, settings: Settings) -> dict[str, Any] | None:
    """The backend's record of the split (contract 4.5); None when the job has none or it was never written."""
    if ref.snapshot_id is None or not settings.checkpoints.from_environment:
        return None
    try:
        raw = open_storage(settings.checkpoints).read(f"snapshots/{ref.snapshot_id}/metadata.json")
    except MissingObject:
        return None
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"the metadata of snapshot {ref.snapshot_id} are not JSON: {error}") from error
    return found if isinstance(found, dict) else None


def _located(ref: DatasetRef, source: Source, task: Task | None, root: Path) -> FetchedDataset:
    """What the data set consists of; nothing but its documents is read."""
    keys = source.json_keys()
    name = document_name((key.removeprefix(source.prefix) for key in keys), task, source.where)
    documents = _documents(name, keys, source)
    sha256 = version_hash(documents)
    check_version(ref, sha256)
    dice = read_documents(name, documents)
    where = (source.prefix, source.bucket, source.exists)
    labels = locate_labels(documents, *where) if name == LABEL_MAP_FILE else {}
    return FetchedDataset(
        root=root if source.bucket is None else root / entry_name(ref.id, sha256),
        dice=dice,
        sha256=sha256,
        image_paths=locate_images(dice, *where),
        other_paths={**labels, **locate_masks(dice, task or Task.SEMANTIC, *where)},
        bucket=source.bucket,
        prefix=source.prefix,
    )


def _documents(name: str, keys: list[str], source: Source) -> dict[str, bytes]:
    """The annotation files; or the label map and what it names. By path, and by the name that the label map uses."""
    first = source.read([source.prefix + name])
    if not first:
        raise DatasetError(f"{name} at {source.where} vanished while it was read", hint="run the job again")
    raw = first[source.prefix + name]
    if name != LABEL_MAP_FILE:
        paths = {path: path for key in keys if is_annotation_file(path := key.removeprefix(source.prefix))}
    else:
        paths = locate_labels(label_files(raw), source.prefix, source.bucket, source.exists)
    read = source.read(key_of(path, source.prefix) for path in paths.values() if path != name)
    found = {written: key_of(path, source.prefix) for written, path in paths.items()}
    return {name: raw} | {written: read[key] for written, key in found.items() if key in read}


def _complete(
    located: FetchedDataset,
    objects: Mapping[str, StoredObject],
    storage: Storage,
    settings: Settings,
    report: Report,
    beside: Mapping[str, int],
) -> set[str]:
    """Brings the objects into the data set's entry of the cache, which stays there for as long as this process lives.

    Returns:
        The paths of those that the storage listed and no longer has.
    """
    entry = CacheEntry(located.root)
    with naming_write_errors(located.root):
        entry.use()
        with entry.completing():
            paths = outdated(objects, entry.root)
            if paths:
                entry.unmark()
            incoming_bytes = sum(objects[path].size_bytes for path in paths)
            make_room(settings.dataset_cache_dir, incoming_bytes, settings.dataset_cache_max_gb * 1e9)
            _check_room(settings, {"the data set": incoming_bytes}, beside)
            gone = download(storage, objects, paths, entry.root, report)
            entry.mark(storage.uri(located.prefix), located.sha256)
    return gone


def _check_room(settings: Settings, incoming: Mapping[str, int], beside: Mapping[str, int]) -> None:
    """Raises: ResourceError, before the first byte of what does not fit."""
    cache, work = settings.dataset_cache_dir, settings.workspace_dir
    shared = work.exists() and work.stat().st_dev == cache.stat().st_dev
    hint = "free space, or set DATASET_CACHE_DIR and WORKSPACE_DIR to larger volumes"
    lack = lack_of_disk(cache, {**incoming, **(beside if shared else {})}, hint=hint)
    if lack is not None:
        raise lack
