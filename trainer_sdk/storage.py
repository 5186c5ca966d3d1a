"""Where files come from and go to: S3 or a folder, behind the same few verbs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from trainer_sdk.errors import ConfigError, NetworkError
from trainer_sdk.partfile import growing
from trainer_sdk.settings import StorageSettings


class MissingObject(Exception):
    """No such key: what that means is for the caller to say."""


class StoredObject(NamedTuple):
    """What a storage says about one object."""

    key: str
    size_bytes: int
    etag: str
    """Changes with the content: S3's ETag without quotes, a folder's time of change."""


MAX_READ_BYTES = 4 * 10**9
"""Of what is read into memory whole: annotation files and pictures."""
BUCKET = r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}"


class Storage(Protocol):
    """One bucket. Keys are relative and use '/'. Usable from several threads, and in forked children."""

    def uri(self, key: str) -> str: ...

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Everything below the folder `prefix` (it ends with '/'), in key order.

        Raises:
            NetworkError: the storage cannot be reached or refuses us.
        """
        ...

    def read(self, key: str) -> bytes:
        """Checked as `download` checks, into memory. Raises: MissingObject, NetworkError, also for a huge object."""
        ...

    def download(self, key: str, target: Path) -> StoredObject:
        """Brings an object whole or not at all, checked against its size and its MD5 where the storage tells one.

        Returns:
            What was received, which is newer than what a listing said.

        Raises:
            MissingObject: there is no such key.
            NetworkError: the storage cannot be reached, refuses us, or sent damaged data every time.
            OSError: `target` cannot be written.
        """
        ...

    def upload(self, source: Path, key: str) -> str:
        """Returns the URI. Raises: NetworkError."""
        ...

    def delete(self, key: str) -> None:
        """Also when there is no such object. Raises: NetworkError."""
        ...


def refuse_huge(uri: str, size_bytes: int) -> None:
    """Raises: NetworkError, for an object that is not read into memory."""
    if size_bytes > MAX_READ_BYTES:
        found = f"{size_bytes / 1e9:.1f} GB, {MAX_READ_BYTES / 1e9:.0f} GB at most are read into memory"
        raise NetworkError(f"{uri} has {found}", retryable=False)


def open_storage(settings: StorageSettings, bucket: str | None = None) -> Storage:
    """``file:///folder`` endpoints are folders with one subfolder per bucket, anything else is S3.

    Raises:
        ConfigError: no bucket can be called so.
    """
    bucket = bucket or settings.bucket
    if not re.fullmatch(BUCKET, bucket) or ".." in bucket:  # of a request's s3:// address; here it may be a folder
        hint = "3 to 63 letters, digits, '.', '_' and '-', such as training-datasets"
        raise ConfigError(f"{bucket!r} cannot be a bucket's name", hint=hint)
    if settings.endpoint.startswith("file://"):
        return LocalStorage(Path(urlsplit(settings.endpoint).path) / bucket)
    from trainer_sdk.s3 import S3Storage

    return S3Storage(settings, bucket)


class LocalStorage:
    """A folder that plays a bucket."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def uri(self, key: str) -> str:
        return str(self._root / key)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        base = self._path(prefix)
        files = [path for path in base.rglob("*") if path.is_file()] if base.is_dir() else []
        return iter(sorted(self._described(path) for path in files))

    def read(self, key: str) -> bytes:
        try:
            refuse_huge(self.uri(key), self._path(key).stat().st_size)
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise MissingObject(self.uri(key)) from error

    def download(self, key: str, target: Path) -> StoredObject:
        source = self._path(key)
        try:
            found, file = self._described(source), source.open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingObject(str(source)) from error
        with file, growing(target) as part:
            part.take(file)
        return found

    def upload(self, source: Path, key: str) -> str:
        with source.open("rb") as file, growing(self._path(key)) as part:
            part.take(file)
        return self.uri(key)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        """A bucket has no way out of it.

        Raises:
            MissingObject: in a bucket, ``..`` is a name like any other, and nothing is called so.
        """
        if ".." in PurePosixPath(key).parts or key.startswith("/"):
            raise MissingObject(self.uri(key))
        return self._root / key

    def _described(self, path: Path) -> StoredObject:
        found = path.stat()
        return StoredObject(path.relative_to(self._root).as_posix(), found.st_size, f"changed-{found.st_mtime_ns}")


def content_type(path: Path) -> str:
    """Checkpoints as the platform's own SDK names them (contract 5); the rest so that browsers show it."""
    types = {".json": "application/json", ".html": "text/html; charset=utf-8", ".py": "text/x-python"}
    return types.get(
        path.suffix, "application/x-pytorch" if path.suffix in (".pt", ".pth") else "application/octet-stream"
    )
