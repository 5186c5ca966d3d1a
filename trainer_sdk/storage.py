"""Where files come from and go to: S3 or a folder, behind the same few verbs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

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
        """Checked as `download` checks. Raises: MissingObject, NetworkError."""
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


def open_storage(settings: StorageSettings, bucket: str | None = None) -> Storage:
    """``file:///folder`` endpoints are folders with one subfolder per bucket, anything else is S3."""
    bucket = bucket or settings.bucket
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
        base = self._root / prefix
        files = [path for path in base.rglob("*") if path.is_file()] if base.is_dir() else []
        return iter(sorted(self._described(path) for path in files))

    def read(self, key: str) -> bytes:
        try:
            return (self._root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise MissingObject(self.uri(key)) from error

    def download(self, key: str, target: Path) -> StoredObject:
        source = self._root / key
        try:
            found, file = self._described(source), source.open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingObject(str(source)) from error
        with file, growing(target) as part:
            part.take(file)
        return found

    def upload(self, source: Path, key: str) -> str:
        with source.open("rb") as file, growing(self._root / key) as part:
            part.take(file)
        return self.uri(key)

    def delete(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)

    def _described(self, path: Path) -> StoredObject:
        found = path.stat()
        return StoredObject(path.relative_to(self._root).as_posix(), found.st_size, f"changed-{found.st_mtime_ns}")


def content_type(path: Path) -> str:
    """Checkpoints as the platform's own SDK names them (contract 5); the rest so that browsers show it."""
    types = {".json": "application/json", ".html": "text/html; charset=utf-8", ".py": "text/x-python"}
    return types.get(
        path.suffix, "application/x-pytorch" if path.suffix in (".pt", ".pth") else "application/octet-stream"
    )
