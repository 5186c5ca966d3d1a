"""Where a data set lies: a folder, or a prefix in a bucket."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from trainer_sdk.aside import each
from trainer_sdk.errors import DatasetError
from trainer_sdk.storage.protocol import MissingObject, Storage, StoredObject

READERS = 32
MAX_DOCUMENT_BYTES = 4 * 10**9
"""Of one annotation file: ten times COCO's instances_train2017.json. It is read whole, and takes several times as much
memory as room."""


class Source(Protocol):
    """A data set by object keys, also where there are none: the layout of a folder is that of a bucket."""

    where: str
    prefix: str
    """Ends with '/'."""

    @property
    def bucket(self) -> str | None:
        """None: a folder."""
        ...

    def json_keys(self) -> list[str]:
        """Of every JSON file below the prefix. Raises: DatasetError, when there is no data set."""
        ...

    def exists(self, key: str) -> bool: ...

    def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """What could be found of them."""
        ...


class FolderSource:
    """A local folder, used in place. What lies in it may have come in an archive from anywhere, links included."""

    bucket = None

    def __init__(self, root: Path, prefix: str, links_to: Sequence[Path] = ()) -> None:
        """
        Args:
            links_to: folders outside into which its links may lead.
        """
        self.where, self.prefix, self._root = str(root), prefix, root
        self._allowed = [os.path.realpath(folder) for folder in (root, *links_to)]
        self._inside = functools.cache(self._leads_inside)

    def json_keys(self) -> list[str]:
        if not self._root.is_dir():
            found = "is a file, not a folder" if self._root.exists() else "does not exist"
            raise DatasetError(f"the data set folder {self._root} {found}", hint="set DATASET_PATH to a DICE folder")
        paths = (path.relative_to(self._root).as_posix() for path in self._root.rglob("*.json") if path.is_file())
        return [self.prefix + path for path in paths]

    def exists(self, key: str) -> bool:
        """Raises: DatasetError, for a link that leaves the folder."""
        if not key.startswith(self.prefix):
            return False
        path = self._path(key)
        if not path.is_file():
            return False
        # Of the folders only one look each: data sets have a million files in a few of them.
        if not self._inside(path if path.is_symlink() else path.parent):
            raise DatasetError(
                f"{str(path)!r} is, or lies behind, a link that leaves the data set folder: to {str(path.resolve())!r}",
                hint="copy the files, or name the folder they are in, if you trust the data set, in DATASET_LINKS_TO",
            )
        return True

    def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: _read_document(self._path(key)) for key in keys if self.exists(key)}

    def _path(self, key: str) -> Path:
        return self._root / key.removeprefix(self.prefix)

    def _leads_inside(self, path: Path) -> bool:
        found = os.path.realpath(path)
        return any(found == folder or found.startswith(f"{folder.rstrip('/')}/") for folder in self._allowed)


class BucketSource:
    """A prefix in a bucket; folders of the same bucket that the data set refers to are looked into when it does."""

    def __init__(self, storage: Storage, bucket: str, prefix: str) -> None:
        self.where, self.prefix, self.bucket = storage.uri(prefix), prefix, bucket
        self._storage = storage
        self._listed: dict[str, dict[str, StoredObject]] = {}

    def json_keys(self) -> list[str]:
        listing = self._listing(self.prefix)
        if not listing:
            hint = "check DATASET_ID or DATASET_S3_URI and the bucket"
            raise DatasetError(f"there is no data set at {self.where}", hint=hint)
        return [key for key in listing if key.endswith(".json")]

    def exists(self, key: str) -> bool:
        return self.find(key) is not None

    def find(self, key: str) -> StoredObject | None:
        known = (folder for folder in (self.prefix, *self._listed) if key.startswith(folder))
        return self._listing(next(known, key.rpartition("/")[0] + "/")).get(key)

    def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        keys = list(keys)
        found = dict(each(self._read, keys, READERS))
        return {key: raw for key in keys if (raw := found[key]) is not None}

    def _read(self, key: str) -> bytes | None:
        listed = self.find(key)
        if listed is not None:
            _refuse_huge(self._storage.uri(key), listed.size_bytes)
        try:
            return self._storage.read(key)
        except MissingObject:
            return None

    def _listing(self, folder: str) -> dict[str, StoredObject]:
        if folder not in self._listed:
            self._listed[folder] = {found.key: found for found in self._storage.objects(folder)}
        return self._listed[folder]


def _read_document(path: Path) -> bytes:
    _refuse_huge(str(path), path.stat().st_size)
    return path.read_bytes()


def _refuse_huge(name: str, size_bytes: int) -> None:
    if size_bytes > MAX_DOCUMENT_BYTES:
        found = f"{size_bytes / 1e9:.1f} GB, {MAX_DOCUMENT_BYTES / 1e9:.0f} GB at most"
        raise DatasetError(f"the annotation file {name} has {found}", hint="divide the data set")
